"""The uplink log: cursors, window, replay, overload."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.talk.uplink import PACKET_BYTES, UplinkLimits, UplinkLog

pytestmark = pytest.mark.unit


def filled(count: int, ms: float = 60.0) -> UplinkLog:
    log = UplinkLog()
    for index in range(count):
        log.append(bytes([index % 256]), ms)
    return log


def test_frames_leave_in_order_and_once() -> None:
    """`take` gives each frame once."""
    log = filled(3)
    assert log.take() == [b"\x00", b"\x01", b"\x02"]
    assert log.take() == []


def test_only_the_window_is_on_its_way() -> None:
    """4 s of audio are sent without an acknowledgement, not more."""
    log = filled(100)
    assert len(log.take()) == 66
    log.credit(10, 0)
    assert len(log.take()) == 10


def test_rewind_sends_everything_from_trim_again() -> None:
    """A replay starts at the first frame that is still needed."""
    log = filled(20)
    log.take()
    log.credit(acked=15, trim=5)
    log.rewind()
    assert log.take() == [bytes([index]) for index in range(5, 20)]
    assert log.replaying
    log.credit(20, 5)
    assert not log.replaying


def test_backlog_is_an_overload_only_outside_a_replay() -> None:
    """6 s behind fails the utterance; a replay may be further behind for a while."""
    log = filled(110)
    assert log.overloaded
    log = filled(90)
    log.take()
    log.credit(66, 0)
    log.rewind()
    for _ in range(20):
        log.append(b"x", 60.0)
    assert log.backlog_ms > 6000 and not log.overloaded


def test_limits_are_in_ms_and_bytes() -> None:
    """1.9 KB frames of 20 ms fill the log by bytes long before they fill it by frames."""
    log = UplinkLog(UplinkLimits(backlog_ms=1e9))
    while not log.overloaded:
        log.append(bytes(1900), 20.0)
    assert log.size_bytes > 2 * 1024 * 1024 and log.kept_ms < 65_000


def test_a_log_of_tiny_packets_is_bounded_too() -> None:
    """Two bytes of PCM are a sixteenth of a millisecond: by length alone 6 s of them would be 100,000 packets."""
    log = UplinkLog()
    while not log.overloaded:
        log.append(b"ab", 0.0625)
    assert log.head < 20_000


def test_drop_forgets_frames_but_not_numbers() -> None:
    """The numbering goes on, so late events of the past stay in the past."""
    log = filled(7)
    log.take()
    log.drop()
    assert (log.trim, log.acked, log.sent, log.head, log.size_bytes) == (7, 7, 7, 7, 0)


class UplinkMachine(RuleBasedStateMachine):
    """Random walks over all operations, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.log = UplinkLog()
        self.model: list[bytes] = []
        self.received: list[bytes] = []
        self.worker_from = 0

    @rule(size=st.integers(0, 30), ms=st.sampled_from([0.0, 20.0, 60.0]))
    def append(self, size: int, ms: float) -> None:
        packet = len(self.model).to_bytes(4, "big") + bytes(size)
        self.model.append(packet)
        self.log.append(packet, ms)

    @rule()
    def take(self) -> None:
        self.received += self.log.take()

    @rule(acked=st.integers(-5, 400), trim=st.integers(-5, 400))
    def credit(self, acked: int, trim: int) -> None:
        self.log.credit(acked, trim)

    @rule()
    def rewind(self) -> None:
        self.log.rewind()
        self.worker_from, self.received = self.log.trim, []

    @rule()
    def drop(self) -> None:
        self.log.drop()
        self.worker_from, self.received = self.log.trim, []

    @invariant()
    def cursors_are_ordered(self) -> None:
        log = self.log
        assert 0 <= log.trim <= log.acked <= log.sent <= log.head == len(self.model)

    @invariant()
    def the_worker_has_every_frame_in_order(self) -> None:
        assert self.received == self.model[self.worker_from : self.log.sent]

    @invariant()
    def sizes_add_up(self) -> None:
        assert self.log.size_bytes == sum(len(packet) + PACKET_BYTES for packet in self.model[self.log.trim :])
        assert self.log.backlog_ms <= self.log.kept_ms + 1e-6


TestUplinkMachine = UplinkMachine.TestCase
TestUplinkMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
