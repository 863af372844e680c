"""Which routers a worker joins and leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.link.roster import GONE_S, HEARD_S, STALE_S, Changes, Roster, Stamp

pytestmark = pytest.mark.unit

A, B = "ipc:///run/r0-asr", "ipc:///run/r1-asr"
LISTED = "tcp://10.0.0.1:5600"


def test_what_is_listed_is_joined_once() -> None:
    """Looking again changes nothing."""
    roster = Roster()
    assert roster.look({A: (1, 1), LISTED: None}, {}, 0.0) == Changes(join=(A, LISTED))
    assert roster.look({A: (1, 1), LISTED: None}, {}, 0.5) == Changes()
    assert A in roster


def test_what_is_off_the_list_is_left_after_a_moment() -> None:
    """A list that is written anew, or a socket that is bound anew, is missing for a moment."""
    roster = Roster()
    roster.look({A: (1, 1), LISTED: None}, {}, 0.0)
    assert roster.look({}, {LISTED: 9.9, A: 0.1}, 10.0) == Changes()
    assert roster.look({LISTED: None, A: (1, 1)}, {}, 10.4) == Changes()
    assert roster.look({}, {}, 20.0) == Changes()
    assert set(roster.look({}, {}, 20.0 + GONE_S).leave) == {A, LISTED}
    assert roster.look({LISTED: None}, {}, 22.0) == Changes(join=(LISTED,))


def test_a_router_whose_socket_file_was_swept_away_is_kept_while_it_is_heard() -> None:
    """Somebody cleans /tmp; the connection lives. An entry of a list is left though it is heard: that is an order."""
    roster = Roster()
    roster.look({A: (1, 1), LISTED: None}, {}, 0.0)
    for now in (10.0, 11.0, 12.0):
        heard = {A: now - 0.3, LISTED: now - 0.3}
        assert A not in roster.look({}, heard, now).leave
    assert LISTED not in roster
    assert roster.look({}, {}, 12.0 + HEARD_S) == Changes(leave=(A,))


def test_a_killed_routers_file_is_forgotten_when_another_router_lives() -> None:
    """Nobody removes it; it is joined again when a router binds it anew."""
    roster = Roster()
    listed: dict[str, Stamp] = {A: (1, 1), B: (2, 2)}
    roster.look(listed, {}, 0.0)
    assert roster.look(listed, {A: 5.0, B: 5.0}, 5.0) == Changes()
    assert roster.look(listed, {A: 64.0}, 5.0 + STALE_S - 0.1) == Changes()
    assert roster.look(listed, {A: 65.0}, 5.0 + STALE_S) == Changes(leave=(B,))
    assert roster.look(listed, {A: 66.0}, 66.0) == Changes()
    listed[B] = (3, 3)
    assert roster.look(listed, {A: 67.0}, 67.0) == Changes(join=(B,))
    assert roster.look(listed, {A: 68.0}, 68.0) == Changes(), "it has its own time to be heard"


def test_the_only_router_is_never_forgotten() -> None:
    """Silent for an hour, it may yet come back: there is nobody else to serve."""
    roster = Roster()
    roster.look({A: (1, 1)}, {}, 0.0)
    assert roster.look({A: (1, 1)}, {A: 1.0}, 3600.0) == Changes()


def test_a_router_on_a_list_is_never_stale() -> None:
    """The list is the operator's word; only reconnecting costs anything, and little."""
    roster = Roster()
    roster.look({LISTED: None, B: (2, 2)}, {}, 0.0)
    assert roster.look({LISTED: None, B: (2, 2)}, {B: 3600.0}, 3600.0) == Changes()


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from([A, B, LISTED]), st.sampled_from([None, (1, 1), (1, 2)])),
            st.dictionaries(st.sampled_from([A, B, LISTED]), st.floats(0, 500)),
            st.floats(0.1, 70.0),
        ),
        max_size=30,
    )
)
def test_joins_and_leaves_alternate(looks: list[tuple[dict[str, Stamp], dict[str, float], float]]) -> None:
    """Whatever the lists say: nobody is joined twice or left without having been joined, and in the end all settles."""
    roster, joined, now = Roster(), set[str](), 0.0
    for listed, heard_s, step_s in looks:
        now += step_s
        changes = roster.look(listed, {name: at for name, at in heard_s.items() if name in joined and at <= now}, now)
        assert set(changes.leave) <= joined
        joined -= set(changes.leave)
        assert not set(changes.join) & joined
        assert set(changes.join) <= set(listed)
        joined |= set(changes.join)
        assert all((name in roster) == (name in joined) for name in (A, B, LISTED))
    for _ in range(3):
        now += HEARD_S
        joined -= set(roster.look({}, {}, now).leave)
    assert not joined
