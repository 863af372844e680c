"""What an operator asks for, as steps."""

from __future__ import annotations

import pytest

from ops.change.changes import RefusedError, parse_name, restarting, rolling, scaling, slots_of, targets_of
from ops.change.course import Down, Up
from ops.process import ProcessName

pytestmark = pytest.mark.unit

SLOTS = {"web": 10, "router": 10, "session": 40, "asr": 40, "lonely": 1}


def names(*texts: str) -> frozenset[ProcessName]:
    return frozenset(map(ProcessName.parse, texts))


def one(text: str) -> ProcessName:
    return ProcessName.parse(text)


def test_scaling_up_starts_the_missing_slots_one_after_the_other() -> None:
    """Loading a model takes all the processor there is: two at once would be heard."""
    units = scaling("asr", 3, names("asr_00", "web_00"), SLOTS)
    assert units == [(Up(one("asr_01"), is_new=True),), (Up(one("asr_02"), is_new=True),)]


def test_scaling_down_stops_the_highest_slots_together() -> None:
    """What they were doing moves to those that stay."""
    units = scaling("asr", 1, names("asr_00", "asr_01", "asr_02"), SLOTS)
    assert units == [(Down((one("asr_02"), one("asr_01"))),)]


def test_a_hole_is_filled_before_a_higher_slot_leaves() -> None:
    """After `drain asr_00`: never fewer than asked for."""
    units = scaling("asr", 2, names("asr_01", "asr_02"), SLOTS)
    assert units == [(Up(one("asr_00"), is_new=True),), (Down((one("asr_02"),)),)]


def test_as_many_as_there_are_is_nothing_to_do() -> None:
    assert scaling("asr", 2, names("asr_00", "asr_01"), SLOTS) == []


@pytest.mark.parametrize(("role", "count"), [("asr", 41), ("asr", -1), ("router", 0), ("web", 0), ("tts", 1)])
def test_a_number_that_cannot_be_is_refused(role: str, count: int) -> None:
    """More than supervisord has slots for, or none of what devices connect to."""
    with pytest.raises(RefusedError):
        scaling(role, count, names("asr_00"), SLOTS)


@pytest.mark.parametrize("word", ["asr", "asr_", "asr_40", "asr_-1", "ars_00", "", "_00"])
def test_a_process_that_does_not_exist_is_refused_with_those_that_do(word: str) -> None:
    with pytest.raises(RefusedError, match=r"asr \(slots 0 to 39\)") as refused:
        parse_name(word + "x" if word == "asr" else word, SLOTS)
    assert "asr_01" in str(refused.value)


def test_targets_are_the_wanted_slots_of_a_role_in_order() -> None:
    """Sessions and speech first, so that a new router finds them; web last, as it tells of the others."""
    wanted = names("web_00", "router_00", "asr_01", "asr_00", "session_00")
    ordered = ["session_00", "asr_00", "asr_01", "router_00", "web_00"]
    assert [str(name) for name in targets_of([], wanted, SLOTS)] == ordered
    assert [str(name) for name in targets_of(["web", "asr"], wanted, SLOTS)] == ["asr_00", "asr_01", "web_00"]
    assert [str(name) for name in targets_of(["asr_05"], wanted, SLOTS)] == ["asr_05"]


def test_a_slot_with_siblings_is_replaced_in_place() -> None:
    """They serve meanwhile."""
    units = rolling([one("asr_00")], names("asr_00", "asr_01"), SLOTS)
    assert units == [(Down((one("asr_00"),), stays_out=False), Up(one("asr_00")))]


@pytest.mark.parametrize(("only", "spare"), [("router_00", "router_01"), ("router_03", "router_00")])
def test_the_only_slot_of_a_role_gets_a_second_one_for_the_time(only: str, spare: str) -> None:
    """It comes first and leaves last."""
    (unit,) = rolling([one(only)], names(only), SLOTS)
    assert unit == (
        Up(one(spare), is_new=True),
        Down((one(only),), stays_out=False),
        Up(one(only)),
        Down((one(spare),)),
    )


def test_a_role_that_can_have_no_second_slot_is_refused() -> None:
    """Rather than a gap that nobody asked for."""
    with pytest.raises(RefusedError, match="without --rolling"):
        rolling([one("lonely_00")], names("lonely_00"), SLOTS)


def test_a_drained_slot_that_is_restarted_is_only_started() -> None:
    assert rolling([one("asr_01")], names("asr_00"), SLOTS) == [(Up(one("asr_01"), is_new=True),)]
    down = Down((one("asr_00"),), stays_out=False)
    up = Up(one("asr_01"), is_new=True)
    assert restarting([one("asr_00"), one("asr_01")], names("asr_00")) == [(down, Up(one("asr_00")), up)]


def test_slots_are_counted_from_supervisords_table() -> None:
    """What it was started with is the most there can be."""
    assert slots_of(names("asr_00", "asr_01", "web_00")) == {"asr": 2, "web": 1}
