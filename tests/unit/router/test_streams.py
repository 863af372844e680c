"""The stream table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pools.streams import Refusal, Row, StreamTable
from shared.ids import Role, StreamId, WorkerId
from shared.link.envelope import Kind

pytestmark = pytest.mark.unit

A, B = WorkerId("asr-00.aa"), WorkerId("asr-01.bb")


def table_with(*workers: WorkerId) -> tuple[StreamTable[str], list[Row[str]]]:
    table: StreamTable[str] = StreamTable()
    return table, [table.add(f"owner {n}", Role.ASR, worker) for n, worker in enumerate(workers)]


def test_ids_start_at_one_and_are_never_reused() -> None:
    """0 is the membership lane."""
    table, rows = table_with(A, B)
    assert [row.id for row in rows] == [1, 2]
    table.end(rows[1].id)
    assert table.add("owner", Role.ASR, A).id == 3


def test_messages_in_order_are_accepted() -> None:
    """The worker's messages count from 0."""
    table, [row] = table_with(A)
    assert table.accept(A, row.id, Kind.EVENT, 0) is row
    assert table.accept(A, row.id, Kind.AUDIO, 1) is row


@pytest.mark.parametrize("kind", [Kind.DONE, Kind.ERROR])
def test_the_first_terminator_frees_the_stream(kind: Kind) -> None:
    """A second one is stale."""
    table, [row] = table_with(A)
    assert table.accept(A, row.id, kind, 0) is row
    assert row.id not in table
    assert table.accept(A, row.id, Kind.DONE, 1) is Refusal.STALE
    assert table.of_worker(A) == []


def test_another_worker_cannot_speak_on_a_stream() -> None:
    """And its attempt changes nothing."""
    table, [row] = table_with(A)
    assert table.accept(B, row.id, Kind.DONE, 0) is Refusal.WRONG_WORKER
    assert table.accept(A, row.id, Kind.EVENT, 0) is row


@pytest.mark.parametrize("seq", [1, 7])
def test_a_gap_is_told_and_leaves_the_row_to_the_caller(seq: int) -> None:
    """A gap is never a silent hole."""
    table, [row] = table_with(A)
    assert table.accept(A, row.id, Kind.DONE, seq) is Refusal.GAP
    assert table.end(row.id) is row


def test_a_repeated_message_is_a_gap_too() -> None:
    """Sequence numbers only go up by one."""
    table, [row] = table_with(A)
    table.accept(A, row.id, Kind.AUDIO, 0)
    assert table.accept(A, row.id, Kind.AUDIO, 0) is Refusal.GAP


def test_ending_twice_is_harmless() -> None:
    """Abort and death may meet."""
    table, [row] = table_with(A)
    assert table.end(row.id) is row
    assert table.end(row.id) is None


def test_a_death_finds_all_streams_of_its_worker_and_no_other() -> None:
    """Oldest first."""
    table, rows = table_with(A, B, A)
    assert table.of_worker(A) == [rows[0], rows[2]]


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "data", "end_message", "gap", "impostor", "end", "die"]),
        st.integers(0, 30),
        st.integers(0, 1),
    ),
    max_size=120,
)


@given(steps)
def test_random_walk_keeps_the_fence(walk: list[Step]) -> None:
    """Whatever happens: ids are fresh, ended streams stay ended, and the index by worker agrees with the rows."""
    workers = [A, B]
    table: StreamTable[int] = StreamTable()
    live: dict[StreamId, Row[int]] = {}
    ended: set[StreamId] = set()
    for action, n, w in walk:
        if action == "add":
            row = table.add(n, Role.ASR, workers[w])
            assert row.id not in live and row.id not in ended
            live[row.id] = row
            continue
        if action == "die":
            dying = table.of_worker(workers[w])
            assert {row.id for row in dying} == {row.id for row in live.values() if row.worker == workers[w]}
            for row in dying:
                table.end(row.id)
                ended.add(live.pop(row.id).id)
            continue
        stream = StreamId(n)
        row_or_none = live.get(stream)
        if row_or_none is None:
            assert table.accept(workers[w], stream, Kind.AUDIO, 0) is Refusal.STALE
            continue
        row = row_or_none
        match action:
            case "data":
                assert table.accept(row.worker, stream, Kind.AUDIO, row.next_in) is row
            case "end_message":
                assert table.accept(row.worker, stream, Kind.DONE, row.next_in) is row
                ended.add(live.pop(stream).id)
            case "gap":
                assert table.accept(row.worker, stream, Kind.DONE, row.next_in + 1) is Refusal.GAP
            case "impostor":
                other = B if row.worker == A else A
                assert table.accept(other, stream, Kind.DONE, row.next_in) is Refusal.WRONG_WORKER
            case "end":
                assert table.end(stream) is row
                ended.add(live.pop(stream).id)
        assert len(table) == len(live)
    assert {row.id for row in table.rows()} == set(live)
