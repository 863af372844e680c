"""What a socket's monitor tells of those who were not let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.link.strangers import MAX_REMEMBERED, Doorstep, Knock, Reason

pytestmark = pytest.mark.unit


def told(doorstep: Doorstep, *knocks: tuple[Knock, int, float]) -> list[Reason]:
    found = [doorstep.on_knock(*knock) for knock in knocks]
    return [reason for reason in found if reason is not None]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Knock.FAILED_KEY, Reason.KEY),
        (Knock.FAILED_MECHANISM, Reason.MECHANISM),
        (Knock.FAILED_PROTOCOL, Reason.HANDSHAKE),
        (Knock.FAILED_SILENTLY, Reason.BROKEN_OFF),
    ],
)
def test_a_failed_handshake_is_told_once_and_its_end_is_no_workers(failure: Knock, reason: Reason) -> None:
    """The disconnect behind it must not have the whole pool pinged."""
    doorstep = Doorstep()
    assert told(doorstep, (Knock.ACCEPTED, 5, 0.0), (failure, 285212674, 0.1)) == [reason]
    assert doorstep.is_strangers(Knock.DISCONNECTED)
    assert told(doorstep, (Knock.DISCONNECTED, 5, 0.1)) == []
    assert doorstep.is_empty


def test_what_never_shook_hands_is_garbage() -> None:
    """libzmq tells no failure of bytes that are no ZMTP."""
    doorstep = Doorstep()
    told(doorstep, (Knock.ACCEPTED, 5, 0.0), (Knock.SUCCEEDED, 0, 0.1))
    assert told(doorstep, (Knock.ACCEPTED, 6, 9.0), (Knock.DISCONNECTED, 6, 9.1)) == [Reason.GARBAGE]
    assert not doorstep.is_strangers(Knock.DISCONNECTED)


def test_a_worker_that_goes_is_no_stranger() -> None:
    """Neither at once nor long after, nor while somebody else is at the door."""
    doorstep = Doorstep()
    assert told(doorstep, (Knock.ACCEPTED, 5, 0.0), (Knock.SUCCEEDED, 0, 0.1), (Knock.DISCONNECTED, 5, 0.2)) == []
    told(doorstep, (Knock.ACCEPTED, 5, 1.0), (Knock.SUCCEEDED, 0, 1.1), (Knock.ACCEPTED, 6, 20.0))
    assert told(doorstep, (Knock.DISCONNECTED, 5, 20.1)) == []


@given(st.lists(st.tuples(st.sampled_from(Knock), st.integers(0, 20), st.floats(0, 100)), max_size=200))
def test_any_order_of_events_is_survived(knocks: list[tuple[Knock, int, float]]) -> None:
    """The monitor's own queue may lose events."""
    doorstep = Doorstep()
    told(doorstep, *knocks)
    assert doorstep.shaking >= 0
    assert doorstep.refused >= 0


def test_only_so_many_connections_are_remembered() -> None:
    """A disconnect that was never told leaves no trace for ever."""
    doorstep = Doorstep()
    told(doorstep, *((Knock.ACCEPTED, number, 0.0) for number in range(MAX_REMEMBERED + 10)))
    assert len(doorstep.accepted_s) == MAX_REMEMBERED
