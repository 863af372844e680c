"""The life of one remembered device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TransitionError
from shared.identity import enrol
from shared.identity.enrol import DeviceRecord, DeviceState, Door, Outcome

pytestmark = pytest.mark.unit

NEW = DeviceRecord("aa")
ENROLLED = enrol.admit(NEW, "one", 10)


@pytest.mark.parametrize(
    ("door", "outcome"),
    [
        (Door.OPEN, Outcome.GRANTED),
        (Door.ASK, Outcome.WAITING),
        (Door.AWAY, Outcome.DENIED),
        (Door.SHUT, Outcome.DENIED),
    ],
)
def test_first_visit_finds_what_the_door_says(door: Door, outcome: Outcome) -> None:
    """Nothing is remembered of a new device, so the policy decides alone."""
    assert enrol.visit(NEW, "one", door) is outcome


@pytest.mark.parametrize("door", [Door.OPEN, Door.ASK])
def test_remembered_pair_gets_a_token(door: Door) -> None:
    """The first pair goes in and out as it likes."""
    assert enrol.visit(ENROLLED, "one", door) is Outcome.GRANTED


@pytest.mark.parametrize(
    ("door", "outcome"), [(Door.OPEN, Outcome.WAITING), (Door.ASK, Outcome.WAITING), (Door.AWAY, Outcome.DENIED)]
)
def test_another_client_id_gets_no_token(door: Door, outcome: Outcome) -> None:
    """A second client-id of a device waits for the operator, and from outside it does not even get a code."""
    assert enrol.visit(ENROLLED, "two", door) is outcome


def test_remembered_pair_away_from_home_keeps_its_token() -> None:
    """It gets no new one there, unless the operator has vouched for it."""
    assert enrol.visit(ENROLLED, "one", Door.AWAY) is Outcome.KEPT
    assert enrol.visit(enrol.approve(ENROLLED, None, 11), "one", Door.AWAY) is Outcome.GRANTED


def test_device_approved_by_its_id_may_bring_any_first_client() -> None:
    """The operator knows the device; the client-id is then remembered."""
    approved = enrol.approve(NEW, None, 10)
    assert approved.state is DeviceState.APPROVED
    assert enrol.visit(approved, "x", Door.AWAY) is Outcome.GRANTED
    assert enrol.visit(enrol.admit(approved, "x", 11), "y", Door.OPEN) is Outcome.WAITING


def test_approving_a_client_replaces_the_remembered_one() -> None:
    """A device whose flash was erased has a new client-id."""
    moved = enrol.approve(ENROLLED, "two", 20)
    assert (moved.state, moved.client, moved.vouched) == (DeviceState.ENROLLED, "two", True)


@given(st.sampled_from(Door), st.sampled_from(["one", "two"]))
def test_revoked_device_gets_nothing_anywhere(door: Door, client: str) -> None:
    """Through no door and with no client-id."""
    assert enrol.visit(enrol.revoke(ENROLLED, 20), client, door) is Outcome.DENIED


def test_revocation_outlives_approval_and_forgetting() -> None:
    """Old tokens stay dead whatever comes after."""
    revoked = enrol.revoke(ENROLLED, 20)
    assert enrol.approve(revoked, None, 30) == ENROLLED.__class__("aa", DeviceState.ENROLLED, "one", True, 21, 0, 30)
    assert enrol.forget(revoked, 30).refused_before_s == 31


def test_forgotten_device_begins_anew() -> None:
    """Another client-id is its first again."""
    forgotten = enrol.forget(ENROLLED, 20)
    assert (forgotten.state, forgotten.client, forgotten.vouched) == (DeviceState.NEW, None, False)
    assert enrol.visit(forgotten, "two", Door.OPEN) is Outcome.GRANTED


@pytest.mark.parametrize("record", [ENROLLED, enrol.revoke(NEW, 1)])
def test_visit_alone_never_brings_in_a_device_that_has_a_client_or_is_revoked(record: DeviceRecord) -> None:
    """Such a move is a fault of ours and changes nothing."""
    with pytest.raises(TransitionError):
        enrol.admit(record, "two", 5)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["visit", "approve", "revoke", "forget"]), st.sampled_from("abc"), st.sampled_from(Door)
        ),
        max_size=30,
    )
)
def test_random_life_keeps_the_invariants(steps: list[tuple[str, str, Door]]) -> None:
    """Enrolled means a client-id, new and approved mean none, and the time of the dead tokens never goes back."""
    record = NEW
    for now_s, (step, client, door) in enumerate(steps, 1):
        before_s = record.refused_before_s
        if step == "visit":
            if enrol.visit(record, client, door) is Outcome.GRANTED and record.state is not DeviceState.ENROLLED:
                record = enrol.admit(record, client, now_s)
        elif step == "approve":
            record = enrol.approve(record, client, now_s)
        else:
            record = (enrol.revoke if step == "revoke" else enrol.forget)(record, now_s)
        assert record.refused_before_s >= before_s
        assert (record.client is None) <= (record.state is not DeviceState.ENROLLED)
        assert record.state not in {DeviceState.NEW, DeviceState.APPROVED} or record.client is None
