"""Uplink frames of many devices leave together; a lone one leaves at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from router.device.uplink_batch import UplinkBatch

pytestmark = pytest.mark.unit


class Clockwork:
    """Stands in for a loop: timers are called by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        self.due.append(callback)
        return self

    def cancel(self) -> None:
        self.due.clear()

    def tick(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


class Ref:
    """A stream that notes what it was sent."""

    def __init__(self, sent: list[tuple[str, bytes]], name: str) -> None:
        self._sent = sent
        self._name = name

    def send_audio(self, packet: bytes) -> bool:
        self._sent.append((self._name, packet))
        return True


@pytest.fixture
def rig() -> tuple[Clockwork, UplinkBatch, list[tuple[str, bytes]]]:
    clockwork, sent = Clockwork(), []  # type: tuple[Clockwork, list[tuple[str, bytes]]]
    return clockwork, UplinkBatch(clockwork), sent  # type: ignore[arg-type]


Rig = tuple[Clockwork, UplinkBatch, list[tuple[str, bytes]]]


def test_a_lone_frame_leaves_at_once(rig: Rig) -> None:
    """With one device nothing waits: each of its frames finds no window open."""
    clockwork, batch, sent = rig
    for packet in (b"1", b"2", b"3"):
        batch.add(Ref(sent, "a"), packet)  # type: ignore[arg-type]
        assert sent[-1] == ("a", packet)
        clockwork.tick()


def test_frames_within_a_window_leave_together_in_order(rig: Rig) -> None:
    """The first opens the window, the others leave at its end."""
    clockwork, batch, sent = rig
    for name in "abc":
        batch.add(Ref(sent, name), name.encode())  # type: ignore[arg-type]
    assert sent == [("a", b"a")]
    clockwork.tick()
    assert sent == [("a", b"a"), ("b", b"b"), ("c", b"c")]


def test_a_window_follows_a_window_until_nothing_came(rig: Rig) -> None:
    """Under load frames leave at the ends of windows only."""
    clockwork, batch, sent = rig
    batch.add(Ref(sent, "a"), b"1")  # type: ignore[arg-type]
    batch.add(Ref(sent, "a"), b"2")  # type: ignore[arg-type]
    clockwork.tick()
    batch.add(Ref(sent, "a"), b"3")  # type: ignore[arg-type]
    assert len(sent) == 2
    clockwork.tick()
    clockwork.tick()
    assert len(sent) == 3 and clockwork.due == []


def test_flush_sends_what_is_gathered_before_an_end(rig: Rig) -> None:
    """END must not overtake its frames, and must not wait for the window."""
    clockwork, batch, sent = rig
    for packet in (b"1", b"2"):
        batch.add(Ref(sent, "a"), packet)  # type: ignore[arg-type]
    batch.flush()
    assert [packet for _, packet in sent] == [b"1", b"2"]
    clockwork.tick()
    assert len(sent) == 2


async def test_on_a_real_loop_the_window_ends_by_itself() -> None:
    """A few milliseconds, without anybody calling."""
    sent: list[tuple[str, bytes]] = []
    done = asyncio.Event()

    class Last(Ref):
        def send_audio(self, packet: bytes) -> bool:
            super().send_audio(packet)
            done.set()
            return True

    batch = UplinkBatch(asyncio.get_running_loop())
    batch.add(Ref(sent, "a"), b"1")  # type: ignore[arg-type]
    batch.add(Last(sent, "b"), b"2")  # type: ignore[arg-type]
    await asyncio.wait_for(done.wait(), 5)
    batch.close()
    assert sent == [("a", b"1"), ("b", b"2")]
