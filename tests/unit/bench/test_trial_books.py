"""The books of a trial: each rule about streams, pools and processes is kept by one sample and broken by another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.trial.books import (
    LEFT_DESCRIPTORS,
    LEFT_MEMORY_KIB,
    LEFT_TASKS,
    Books,
    Holding,
    PoolCount,
    WorkerLoad,
)
from bench.trial.wire_book import WireBook
from bench.trial.zmtp import GREETING_BYTES, MessageReader
from shared.ids import StreamId
from shared.link.envelope import Kind, pack_head

pytestmark = pytest.mark.unit

LOAD = WorkerLoad("asr-00.1", capacity=4, active=3, reserved=1, ours=4)
HOLDING = Holding("asr-0", 7, threads=6, thread_budget=6, tasks=9, descriptors=40, memory_kib=100_000)


def codes(books: Books | WireBook) -> list[str]:
    return [complaint.code for complaint in books.complaints]


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("ended_unopened", [PoolCount(1, 2, 0)]),
        ("count_fell", [PoolCount(5, 3, 0), PoolCount(5, 2, 0)]),
        ("count_fell", [PoolCount(5, 3, 0), PoolCount(4, 3, 0)]),
        ("ended_twice", [PoolCount(5, 3, 0), PoolCount(5, 4, 1)]),
    ],
)
def test_streams_end_once(code: str, counts: list[PoolCount]) -> None:
    """No more ends than begins, neither falls, none twice."""
    books = Books()
    books.on_counts("router", {"asr": PoolCount(0, 0, 0)}, 0.0)
    for count in counts:
        books.on_counts("router", {"asr": count}, 1.0)
    assert codes(books) == [code]


def test_an_end_repeated_on_the_way_is_not_the_workers() -> None:
    """As many second ends as the forwarder has made are forgiven, and no more."""
    books = Books()
    books.on_counts("router", {"asr": PoolCount(5, 3, 1), "tts": PoolCount(5, 5, 1)}, 0.0, repeated_ends=2)
    assert codes(books) == []
    books.on_counts("router", {"asr": PoolCount(5, 3, 2), "tts": PoolCount(5, 5, 1)}, 1.0, repeated_ends=2)
    books.on_counts("router", {"asr": PoolCount(5, 3, 2), "tts": PoolCount(5, 5, 1)}, 2.0, repeated_ends=2)
    assert codes(books) == ["ended_twice"]


def test_another_life_of_a_router_counts_from_zero() -> None:
    """Its counters are new, and that is no fall."""
    books = Books()
    books.on_counts("router (1)", {"asr": PoolCount(9, 9, 0)}, 0.0)
    books.on_counts("router (2)", {"asr": PoolCount(1, 0, 0)}, 1.0)
    assert codes(books) == []


def test_no_worker_is_asked_for_more_than_it_can() -> None:
    """active + reserved ≤ capacity."""
    books = Books()
    books.on_loads([LOAD], 0.0)
    assert codes(books) == []
    books.on_loads([replace(LOAD, reserved=2)], 1.0)
    assert codes(books) == ["over_capacity"]


def test_threads_stay_within_their_budget() -> None:
    """At two looks in a row: libraries start threads for a moment while they are loaded."""
    books = Books()
    for threads in (7, 6, 7):
        books.on_holdings([replace(HOLDING, threads=threads)], 0.0)
    assert codes(books) == []
    books.on_holdings([replace(HOLDING, threads=7)], 1.0)
    assert codes(books) == ["threads_over_budget"]
    assert books.highest_threads == {"asr-0": (7, 6)}


@pytest.mark.parametrize("left", [{"ours": 1}, {"active": 1}, {"reserved": 1}])
def test_nothing_is_open_at_rest(left: dict[str, int]) -> None:
    """On no worker, in no way."""
    books = Books()
    books.at_rest([replace(LOAD, active=0, reserved=0, ours=0)], 0.0)
    assert codes(books) == []
    books.at_rest([replace(LOAD, **({"active": 0, "reserved": 0, "ours": 0} | left))], 1.0)
    assert codes(books) == ["stream_left_open"]


def test_every_open_was_answered_at_rest() -> None:
    """Opened and ended are equal then."""
    books = Books()
    books.on_counts("router", {"asr": PoolCount(5, 4, 0)}, 0.0)
    books.at_rest([], 1.0)
    assert codes(books) == ["stream_left_open"]


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("tasks_left", {"tasks": HOLDING.tasks + LEFT_TASKS + 1}),
        ("descriptors_left", {"descriptors": HOLDING.descriptors + LEFT_DESCRIPTORS + 1}),
        ("memory_left", {"memory_kib": int(HOLDING.memory_kib * 1.25) + LEFT_MEMORY_KIB + 1}),
    ],
)
def test_a_process_gives_back_what_it_took(code: str, more: dict[str, int]) -> None:
    """Tasks, descriptors and memory, within named limits."""
    books = Books()
    books.compare([HOLDING], [HOLDING], 0.0)
    assert codes(books) == []
    books.compare([HOLDING], [replace(HOLDING, **more)], 1.0)
    assert codes(books) == [code]


# The wire


def message(kind: Kind, stream: int) -> tuple[bytes, ...]:
    return (pack_head(kind, StreamId(stream)), b"body")


def wire(*messages: tuple[str, Kind, int]) -> WireBook:
    book = WireBook()
    book.on_connected("lane")
    for way, kind, stream in messages:
        if way == "down":
            book.to_worker("lane", message(kind, stream))
        else:
            book.from_worker("lane", message(kind, stream), 1.0)
    return book


def test_each_open_is_answered_once() -> None:
    """Membership has no stream; a repeated OPEN opens nothing more."""
    book = wire(
        ("up", Kind.BEAT, 0), ("down", Kind.OPEN, 1), ("down", Kind.OPEN, 1), ("up", Kind.AUDIO, 1),
        ("up", Kind.DONE, 1), ("down", Kind.OPEN, 2), ("up", Kind.ERROR, 2), ("down", Kind.ABORT, 2),
    )  # fmt: skip
    book.at_rest(2.0)
    assert (codes(book), book.opened, book.ended) == ([], 2, 2)


def test_what_was_queued_before_a_connection_broke_may_come_on_the_next_one() -> None:
    """Of the same worker; ZeroMQ keeps what waits to be sent."""
    book = WireBook()
    book.on_connected("worker#1")
    book.to_worker("worker#1", message(Kind.OPEN, 1))
    book.on_closed("worker#1")
    for lane in ("worker#2", "other#2"):
        book.on_connected(lane)
        book.from_worker(lane, message(Kind.DONE, 1), 1.0)
    assert (codes(book), book.lost, book.ended) == (["spoke_unopened"], 1, 0)


@pytest.mark.parametrize(
    ("code", "messages"),
    [
        ("ended_twice", [("down", Kind.OPEN, 1), ("up", Kind.DONE, 1), ("up", Kind.ERROR, 1)]),
        ("spoke_after_end", [("down", Kind.OPEN, 1), ("up", Kind.DONE, 1), ("up", Kind.AUDIO, 1)]),
        ("spoke_unopened", [("up", Kind.EVENT, 3)]),
        ("stream_left_open", [("down", Kind.OPEN, 1), ("up", Kind.AUDIO, 1)]),
    ],
)
def test_a_worker_that_lies_is_seen(code: str, messages: list[tuple[str, Kind, int]]) -> None:
    """Two ends, words after the end, words on no stream, no end."""
    book = wire(*messages)
    book.at_rest(2.0)
    assert codes(book) == [code]


def test_a_closed_connection_ends_its_streams() -> None:
    """Counted as lost, not as left open."""
    book = wire(("down", Kind.OPEN, 1))
    book.on_closed("lane")
    book.at_rest(2.0)
    assert (codes(book), book.lost, book.open) == ([], 1, 0)


# ZMTP


def frame(body: bytes, *, more: bool = False, command: bool = False) -> bytes:
    flags = (1 if more else 0) | (4 if command else 0)
    if len(body) > 255:
        return bytes([flags | 2]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
def test_a_stream_is_cut_into_messages_wherever_the_bytes_are_cut(step: int) -> None:
    """Greeting, command, short and long parts; every byte is passed on once and in order."""
    stream = b"".join(
        [
            b"g" * GREETING_BYTES,
            frame(b"\x05READY", command=True),
            frame(b"head", more=True) + frame(b"x" * 300),
            frame(b"alone"),
        ]
    )
    reader, found = MessageReader(), []
    for at in range(0, len(stream), step):
        found += reader.feed(stream[at : at + step])
    assert b"".join(message.raw for message in found) == stream
    assert [message.parts for message in found if message.parts] == [(b"head", b"x" * 300), (b"alone",)]
