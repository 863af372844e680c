"""What is broken in a running cluster, and when it is tried again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.cluster.crash_loop import SHORT_LIFE_S
from ops.cluster.failures import DEATHS_IN_A_ROW, RETRY_S, Changes, Failure, Failures, write_fatal
from ops.process import ProcessInfo, ProcessName, State

pytestmark = pytest.mark.unit

ASR = ProcessName("asr", 0)


def info(state: State = "RUNNING", pid: int = 1, uptime_s: int = 1, message: str = "") -> ProcessInfo:
    return ProcessInfo(ASR, state, pid if state == "RUNNING" else 0, uptime_s, message, log=Path())


def test_a_fatal_process_is_told_once() -> None:
    """Each failure is one line for the operator, not one a second."""
    failures = Failures()
    assert failures.observe(0.0, [info()]) == Changes()
    assert failures.observe(1.0, [info("FATAL", message="Exited too quickly")]) == Changes(failed=(ASR,))
    assert failures.observe(2.0, [info("FATAL")]) == Changes()
    assert failures.current == {ASR: Failure("Exited too quickly", 1.0)}


def test_a_crash_loop_is_stopped_and_counts_as_failed() -> None:
    """supervisord would restart it for ever."""
    failures = Failures()
    changes = [failures.observe(float(pid), [info(pid=pid)]) for pid in range(1, DEATHS_IN_A_ROW + 2)]
    assert changes[-1] == Changes(failed=(ASR,), stop=(ASR,))
    assert all(change == Changes() for change in changes[:-1])


def test_it_is_tried_again_every_minute_until_it_stays() -> None:
    """A full disk is freed, a server comes back: nobody should have to notice."""
    failures = Failures()
    failures.observe(0.0, [info("FATAL")])
    assert failures.observe(RETRY_S - 1, [info("FATAL")]).retry == ()
    assert failures.observe(RETRY_S, [info("FATAL")]).retry == (ASR,)
    assert failures.observe(RETRY_S + 1, [info("FATAL")]).retry == ()
    assert failures.observe(2 * RETRY_S, [info("FATAL")]).retry == (ASR,)
    assert failures.observe(2 * RETRY_S + 1, [info(uptime_s=1)]).recovered == ()
    assert failures.observe(2 * RETRY_S + 8, [info(uptime_s=SHORT_LIFE_S)]).recovered == (ASR,)
    assert failures.current == {}


def test_a_retried_crash_loop_has_all_its_lives_again() -> None:
    """Otherwise it would loop unseen after the retry."""
    failures = Failures()
    for pid in range(1, DEATHS_IN_A_ROW + 2):
        failures.observe(float(pid), [info(pid=pid)])
    assert failures.observe(100.0, [info("STOPPED")]).retry == (ASR,)
    stops = [failures.observe(101.0 + pid, [info(pid=pid)]).stop for pid in range(1, DEATHS_IN_A_ROW + 2)]
    assert stops[-1] == (ASR,)


def test_the_file_tells_who_and_why_and_goes_with_the_last_failure(tmp_path: Path) -> None:
    """The web process reads it for /readyz; no failures, no file."""
    write_fatal(tmp_path, {ASR: Failure("x", 0.0)})
    assert json.loads((tmp_path / "fatal.json").read_text()) == {"asr_00": {"reason": "x", "since_s": 0.0}}
    write_fatal(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_wanted_any_more_is_no_failure() -> None:
    """A broken process that was scaled away: /readyz must not name it for ever."""
    failures = Failures()
    failures.observe(0.0, [info("FATAL")])
    assert failures.observe(1.0, []) == Changes(forgotten=(ASR,))
    assert failures.current == {}
    assert failures.observe(2.0, []) == Changes()
