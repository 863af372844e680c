"""The order and the deadlines of a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cluster.stopping import COALESCE_S, GRACE_S, REAP_S, Signal, Stop, Stopping
from ops.process import ProcessInfo, ProcessName, State

pytestmark = pytest.mark.unit

ROUTER, ASR, WEB = ProcessName("router", 0), ProcessName("asr", 0), ProcessName("web", 0)


def info(name: ProcessName, state: State = "RUNNING") -> ProcessInfo:
    return ProcessInfo(name, state, pid=1, uptime_s=100, message="", log=Path())


def test_routers_stop_first_and_alone() -> None:
    """Workers live as long as a router drains."""
    stopping = Stopping(0.0, drain_s=8.0)
    assert stopping.step(0.0, [info(ROUTER), info(ASR), info(WEB)]) == [Stop(ROUTER)]
    assert stopping.step(5.0, [info(ROUTER, "STOPPING"), info(ASR), info(WEB)]) == []


def test_the_rest_stops_together_when_the_last_router_is_gone() -> None:
    """Nobody waits for the deadline when nobody talks."""
    stopping = Stopping(0.0, drain_s=8.0)
    stopping.step(0.0, [info(ROUTER), info(ASR), info(WEB)])
    assert stopping.step(0.3, [info(ROUTER, "STOPPED"), info(ASR), info(WEB)]) == [Stop(ASR), Stop(WEB)]
    assert stopping.step(0.6, [info(ROUTER, "STOPPED"), info(ASR, "STOPPED"), info(WEB, "STOPPED")]) == []
    assert stopping.is_done


def test_routers_are_told_again_in_time_to_be_gone_at_the_deadline() -> None:
    """Stopped alone they would drain for longer; what they say last is to find the workers there."""
    stopping = Stopping(0.0, drain_s=8.0)
    stopping.step(0.0, [info(ROUTER), info(ASR)])
    assert stopping.step(6.9, [info(ROUTER, "STOPPING"), info(ASR)]) == []
    assert stopping.step(7.0, [info(ROUTER, "STOPPING"), info(ASR)]) == [Signal(ROUTER, "TERM")]
    assert stopping.step(7.1, [info(ROUTER, "STOPPING"), info(ASR)]) == []


def test_at_the_deadline_everything_gets_a_second_sigterm() -> None:
    """The first SIGTERM and the second are far enough apart to arrive as two."""
    stopping = Stopping(0.0, drain_s=8.0)
    stopping.step(0.0, [info(ROUTER), info(ASR)])
    assert stopping.step(8.0, [info(ROUTER, "STOPPING"), info(ASR)]) == [Stop(ASR), Signal(ROUTER, "TERM")]
    assert stopping.step(8.1, [info(ROUTER, "STOPPING"), info(ASR, "STOPPING")]) == []
    assert stopping.step(8.0 + COALESCE_S, [info(ROUTER, "STOPPING"), info(ASR, "STOPPING")]) == [Signal(ASR, "TERM")]


def test_a_second_ctrl_c_hurries() -> None:
    """The person does not wait for the drain's deadline."""
    stopping = Stopping(0.0, drain_s=8.0)
    stopping.step(0.0, [info(ROUTER)])
    stopping.hurry(1.0)
    assert stopping.step(1.0, [info(ROUTER, "STOPPING")]) == [Signal(ROUTER, "TERM")]
    assert stopping.step(1.1, [info(ROUTER, "STOPPING")]) == []


def test_a_third_ctrl_c_changes_nothing() -> None:
    """A process gets its second to leave, however often the keys are pressed."""
    stopping = Stopping(0.0, drain_s=8.0)
    stopping.hurry(1.0)
    stopping.hurry(2.5)
    stopping.step(1.0 + 1.0 + GRACE_S, [info(ROUTER, "STOPPING")])
    assert stopping.phase == "killed"


def test_what_ignores_everything_is_killed() -> None:
    """SIGKILL comes after the hurried drain's second and its grace, and goes only to what was asked before."""
    stopping = Stopping(0.0, drain_s=8.0)
    stopping.hurry(0.0)
    stopping.step(0.0, [info(ASR)])
    assert stopping.step(2.5, [info(ASR, "STOPPING")]) == [Signal(ASR, "KILL")]


def test_a_process_that_was_just_restarted_is_stopped_again() -> None:
    """supervisord restarts what it saw exit before our stop arrived."""
    stopping = Stopping(0.0, drain_s=8.0)
    assert stopping.step(0.0, [info(ROUTER, "EXITED")]) == []
    assert not stopping.is_done
    assert stopping.step(0.1, [info(ROUTER, "STARTING")]) == [Stop(ROUTER)]


STATES = st.sampled_from(["STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL"])


@given(
    st.lists(st.tuples(st.floats(0.05, 3.0), st.tuples(STATES, STATES, STATES), st.booleans()), max_size=40),
    st.floats(0.0, 20.0),
)
def test_every_stop_ends(steps: list[tuple[float, tuple[State, State, State], bool]], drain_s: float) -> None:
    """Whatever the processes do, it is done by the sum of its deadlines, and a SIGKILL never comes before a SIGTERM."""
    stopping, now_s, told = Stopping(0.0, drain_s), 0.0, set()
    for span_s, states, is_pressed in steps:
        infos = [info(name, state) for name, state in zip((ROUTER, ASR, WEB), states, strict=True)]
        for act in stopping.step(now_s, infos):
            if isinstance(act, Signal):
                assert {i.name: i.state for i in infos}[act.name] == "STOPPING"
            told.add(act.name)
        if is_pressed:
            stopping.hurry(now_s)
        now_s += span_s
    for _ in range(4):
        stopping.step(now_s, [info(ASR, "STOPPING")])
        now_s += drain_s + 1.0 + GRACE_S + REAP_S
    assert stopping.is_done
