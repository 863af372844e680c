"""What waits for a full peer."""

from __future__ import annotations

import pytest

from shared.link.lane import CONTROL_SLOTS, STUCK_S, Lane, Message

pytestmark = pytest.mark.unit


class Peer:
    """Takes so many messages."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.got: list[Message] = []

    def take(self, message: Message) -> bool:
        if len(self.got) >= self.room:
            return False
        self.got.append(message)
        return True


def messages(count: int) -> list[Message]:
    return [(b"head", b"%d" % n) for n in range(count)]


def lane_with(count: int, now: float = 0.0) -> Lane:
    lane = Lane()
    for message in messages(count):
        lane.hold(message, now)
    return lane


def test_waiting_messages_leave_in_order() -> None:
    """Control is never reordered."""
    lane, peer = lane_with(5), Peer(room=5)
    lane.retry(peer.take, now=0.1)
    assert peer.got == messages(5)
    assert lane.is_clear


def test_a_full_peer_keeps_the_rest_waiting() -> None:
    """A retry stops at the first message the peer does not take."""
    lane, peer = lane_with(5), Peer(room=2)
    lane.retry(peer.take, now=0.1)
    assert len(lane) == 3
    peer.room = 9
    lane.retry(peer.take, now=0.2)
    assert peer.got == messages(5)


def test_a_lane_that_does_not_move_for_a_second_is_stuck() -> None:
    """Stuck is measured from the last progress, not from the first message."""
    lane, peer = lane_with(2, now=10.0), Peer(room=1)
    assert not lane.is_stuck(10.0 + STUCK_S - 0.01)
    assert lane.is_stuck(10.0 + STUCK_S)
    lane.retry(peer.take, now=11.5)
    assert not lane.is_stuck(11.5 + STUCK_S - 0.01)
    assert lane.is_stuck(11.5 + STUCK_S)


def test_an_empty_lane_is_never_stuck() -> None:
    """Silence on a lane is no fault of its peer."""
    assert not Lane().is_stuck(1e9)


def test_more_than_64_waiting_is_stuck_at_once() -> None:
    """The queue is bounded, and overflowing it is fatal for the peer, never a silent loss."""
    lane = lane_with(CONTROL_SLOTS)
    assert not lane.is_stuck(0.0)
    lane.hold((b"head", None), 0.0)
    assert len(lane) == CONTROL_SLOTS
    assert lane.is_stuck(0.0)
