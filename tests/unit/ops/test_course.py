"""One change to a running cluster, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.change.acts import Act, Signal, Start, Stop
from ops.change.changes import rolling, scaling
from ops.change.course import HURRIED_S, Course, Done, Down, GaveUp, Limits, Unit, Up, Waiting
from ops.change.sight import Seen, Sight, Told
from ops.process import ProcessInfo, ProcessName, State

pytestmark = pytest.mark.unit

A0, A1, A2 = (ProcessName("asr", slot) for slot in range(3))
LIMITS = Limits(start_s=60.0, drain_s=30.0)


def seen(name: ProcessName, state: State, pid: int = 0, told: Told | None = None) -> Seen:
    return Seen(ProcessInfo(name, state, pid, 10 if pid else 0, "", Path()), told)


def joined(name: ProcessName, pid: int = 1, epoch: int = 1) -> Seen:
    return seen(name, "RUNNING", pid, Told(pid, epoch))


def sight(*each: Seen) -> Sight:
    return {one.info.name: one for one in each}


def course(*steps: Up | Down, wanted: Iterable[ProcessName] = (), epoch: int = 0) -> Course:
    return Course([tuple(steps)], wanted, LIMITS, now_s=0.0, epoch=epoch)


def test_a_slot_is_wanted_before_it_is_started_and_over_when_it_has_joined() -> None:
    """Running is not enough: a beat of this very life must have been heard."""
    up = course(Up(A1, is_new=True), wanted=[A0])
    assert up.step(0.0, sight(seen(A1, "STOPPED"))) == [Start(A1)]
    assert up.wanted == {A0, A1}
    assert up.step(1.0, sight(seen(A1, "RUNNING", 7))) == []
    assert up.verdict == Waiting("starting asr_01: waiting for its beat")
    assert up.step(2.0, sight(joined(A1, 7))) == []
    assert up.verdict == Done()


def test_a_life_with_an_older_configuration_does_not_count() -> None:
    """It would serve people with what they have just replaced."""
    up = course(Up(A1), epoch=3)
    up.step(0.0, sight(joined(A1, epoch=2)))
    assert not up.is_over
    up.step(1.0, sight(joined(A1, epoch=3)))
    assert up.verdict == Done()


def test_a_slot_that_is_still_leaving_is_started_when_it_has_left() -> None:
    """supervisord would refuse before."""
    up = course(Up(A0))
    assert up.step(0.0, sight(seen(A0, "STOPPING", 5))) == []
    assert up.step(1.0, sight(seen(A0, "STOPPED"))) == [Start(A0)]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_slot_that_does_not_come_ends_the_course(is_new: bool) -> None:
    """A new one is given up; one that was there before stays wanted, as anything broken does."""
    up = course(Up(A1, is_new=is_new), Down((A0,)), wanted=[A0] if is_new else [A0, A1])
    up.step(0.0, sight(seen(A1, "STOPPED"), joined(A0)))
    acts = up.step(1.0, sight(seen(A1, "FATAL"), joined(A0)))
    assert up.verdict == GaveUp("asr_01 cannot be started", A1)
    assert acts == ([Stop(A1)] if is_new else [])
    assert up.wanted == ({A0} if is_new else {A0, A1})
    assert up.step(2.0, sight(seen(A1, "STOPPED"), joined(A0))) == []


def test_an_old_failure_of_a_slot_is_not_taken_for_a_new_one() -> None:
    """It is tried first."""
    up = course(Up(A1))
    assert up.step(0.0, sight(seen(A1, "FATAL"))) == [Start(A1)]
    assert not up.is_over


def test_a_slot_that_keeps_dying_is_given_up_before_supervisord_does() -> None:
    """One that needs seconds of imports before it fails is started for ever."""
    up = course(Up(A1, is_new=True))
    up.step(0.0, sight(seen(A1, "STOPPED")))
    for pid in (11, 12, 13):
        up.step(1.0, sight(seen(A1, "RUNNING", pid)))
    assert up.verdict == GaveUp("asr_01 cannot be started", A1)


def test_a_slot_that_is_never_heard_is_given_up_at_the_limit() -> None:
    """It says how long was waited."""
    up = course(Up(A1, is_new=True))
    up.step(0.0, sight(seen(A1, "STOPPED")))
    assert up.step(60.0, sight(seen(A1, "RUNNING", 7))) == [Stop(A1)]
    assert up.verdict == GaveUp("asr_01 has not joined within 60 s", A1)


def test_the_second_slot_stays_if_the_first_does_not_come_back() -> None:
    """It is the only one left that does the work."""
    (unit,) = rolling([A0], [A0], {"asr": 2})
    walk = Course([unit], [A0], LIMITS, now_s=0.0)
    walk.step(0.0, sight(joined(A0), joined(A1, 5)))
    walk.step(1.0, sight(joined(A0), joined(A1, 5)))
    walk.step(2.0, sight(seen(A0, "STOPPED"), joined(A1, 5)))
    assert walk.step(3.0, sight(seen(A0, "STOPPED"), joined(A1, 5))) == [Start(A0)]
    assert walk.step(4.0, sight(seen(A0, "FATAL"), joined(A1, 5))) == []
    assert walk.verdict == GaveUp("asr_00 cannot be started", A0)
    assert walk.wanted == {A0, A1}


def test_slots_drain_together_and_are_told_of_by_their_streams() -> None:
    """No longer wanted from the first moment, so that nobody starts them again."""
    down = course(Down((A2, A1)), wanted=[A0, A1, A2])
    busy = seen(A2, "RUNNING", 3, Told(3, active=4))
    assert down.step(0.0, sight(joined(A1), busy)) == [Stop(A2), Stop(A1)]
    assert down.wanted == {A0}
    assert down.step(1.0, sight(seen(A1, "STOPPED"), seen(A2, "STOPPING", 3, Told(3, active=4)))) == []
    assert down.verdict == Waiting("draining asr_02 (4 streams); at most 30 s more")
    down.step(2.0, sight(seen(A1, "STOPPED"), seen(A2, "STOPPED")))
    assert down.verdict == Done()


def test_what_is_restarted_stays_wanted_while_it_is_down() -> None:
    """Should the command die now, it is brought back."""
    down = course(Down((A0,), stays_out=False), Up(A0), wanted=[A0])
    down.step(0.0, sight(joined(A0)))
    assert down.wanted == {A0}


def test_a_drain_is_hurried_once_at_its_deadline_and_then_ended() -> None:
    """As a stop of the whole cluster does it."""
    down = course(Down((A0,)), wanted=[A0])
    leaving = sight(seen(A0, "STOPPING", 3))
    assert down.step(29.9, leaving) == []
    assert down.step(30.0, leaving) == [Signal(A0, "TERM")]
    assert down.step(31.0, leaving) == []
    assert down.step(30.0 + HURRIED_S, leaving) == [Signal(A0, "KILL")]


def test_a_course_that_is_cut_short_ends_the_unit_it_is_in() -> None:
    """A slot that was stopped for a restart comes back; the next one is not touched."""
    units: list[Unit] = [(Down((A0,), stays_out=False), Up(A0)), (Down((A1,), stays_out=False), Up(A1))]
    walk = Course(units, [A0, A1], LIMITS, now_s=0.0)
    walk.step(0.0, sight(joined(A0), joined(A1)))
    walk.cut_short()
    walk.step(1.0, sight(seen(A0, "STOPPED"), joined(A1)))
    assert walk.step(2.0, sight(seen(A0, "STOPPED"), joined(A1))) == [Start(A0)]
    walk.step(3.0, sight(joined(A0, 9), joined(A1)))
    assert walk.verdict == Done()


def test_nothing_to_do_is_done() -> None:
    """`scale asr 2` of two."""
    assert Course([], [A0], LIMITS, now_s=0.0).verdict == Done()


class Machine:
    """supervisord and its processes, as far as a course sees them; `rolls` says how everything turns out."""

    def __init__(self, running: Iterable[ProcessName], slots: int) -> None:
        self.pids = {name: 100 + name.slot for name in running}
        self.leaving: set[ProcessName] = set()
        self.dead: set[ProcessName] = set()
        self._next_pid = 1000
        self._slots = slots

    def act(self, act: Act) -> None:
        match act:
            case Start(name):
                assert name not in self.pids, "started while it still runs"
                self._next_pid += 1
                self.pids[name] = self._next_pid
                self.dead.discard(name)
            case Stop(name):
                if name in self.pids:
                    self.leaving.add(name)
            case Signal(name):
                self.leave(name)

    def leave(self, name: ProcessName) -> None:
        self.leaving.discard(name)
        self.pids.pop(name, None)

    def fail(self, name: ProcessName) -> None:
        self.leave(name)
        self.dead.add(name)

    def sight(self, is_heard: bool) -> Sight:
        return sight(*(self._seen(ProcessName("asr", slot), is_heard) for slot in range(self._slots)))

    def _seen(self, name: ProcessName, is_heard: bool) -> Seen:
        pid = self.pids.get(name, 0)
        if not pid:
            return seen(name, "FATAL" if name in self.dead else "STOPPED")
        told = Told(pid) if is_heard else None
        return seen(name, "STOPPING" if name in self.leaving else "RUNNING", pid, told)


@given(
    running=st.sets(st.integers(0, 5), min_size=1).map(lambda slots: {ProcessName("asr", slot) for slot in slots}),
    change=st.one_of(st.integers(1, 6), st.just("rolling")),
    rolls=st.lists(st.sampled_from(["heard", "silent", "left", "fatal"]), max_size=80),
)
@settings(max_examples=300, deadline=None)
def test_however_it_goes_somebody_is_always_there(
    running: set[ProcessName], change: int | str, rolls: list[str]
) -> None:
    """At no moment does the last serving slot leave, and what runs in the end is what is wanted."""
    machine = Machine(running, slots=6)
    units = (
        rolling(sorted(running, key=str), running, {"asr": 6})
        if isinstance(change, str)
        else scaling("asr", change, running, {"asr": 6})
    )
    walk = Course(units, running, LIMITS, now_s=0.0)
    now_s = 0.0
    for roll in [*rolls, *["heard", "left"] * 60]:
        if walk.is_over:
            break
        now_s += 0.5
        if roll == "left":
            for name in list(machine.leaving):
                machine.leave(name)
        if roll == "fatal":
            for name in [name for name in machine.pids if machine.pids[name] > 1000 and name not in machine.leaving]:
                machine.fail(name)
                break
        for act in walk.step(now_s, machine.sight(is_heard=roll != "silent")):
            machine.act(act)
        serving = set(machine.pids) - machine.leaving
        assert serving or machine.dead, "nobody is left although nothing has failed"
    assert walk.is_over
    for name in list(machine.leaving):
        machine.leave(name)
    if isinstance(walk.verdict, Done):
        assert set(machine.pids) | machine.dead >= walk.wanted
        assert set(machine.pids) <= walk.wanted
        expected = running if isinstance(change, str) else {ProcessName("asr", slot) for slot in range(change)}
        assert walk.wanted == expected
