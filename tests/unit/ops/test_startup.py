"""When a start counts as done, and when as failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cluster.startup import Coming, Failed, Ready, Startup
from ops.process import ProcessInfo, ProcessName, State

pytestmark = pytest.mark.unit

ASR0, ASR1, WEB = ProcessName("asr", 0), ProcessName("asr", 1), ProcessName("web", 0)


def info(name: ProcessName, state: State = "RUNNING", pid: int = 1) -> ProcessInfo:
    return ProcessInfo(name, state, pid, uptime_s=1, message="", log=Path())


def test_running_is_not_ready() -> None:
    """supervisord knows nothing of a model that is still being loaded."""
    startup = Startup(0.0, timeout_s=180.0)
    assert startup.judge(1.0, [info(ASR0), info(WEB)], "asr 0/1") == Coming("waiting for asr 0/1")
    assert startup.judge(2.0, [info(ASR0), info(WEB)], None) == Ready()


def test_progress_counts_each_program() -> None:
    """The line says how many of how many slots run."""
    startup = Startup(0.0, timeout_s=180.0)
    infos = [info(WEB), info(ASR0), info(ASR1, "STARTING")]
    assert startup.judge(1.0, infos, "web") == Coming("starting: web 1/1, asr 1/2")


def test_a_program_that_was_given_up_fails_the_start() -> None:
    """Its name is told, so that its log can be shown."""
    verdict = Startup(0.0, timeout_s=180.0).judge(20.0, [info(WEB), info(ASR1, "FATAL", pid=0)], None)
    assert verdict == Failed("asr_01 cannot be started", (ASR1,))


def test_a_program_that_dies_twice_fails_the_start() -> None:
    """It need not become FATAL: with slow imports it never would."""
    startup = Startup(0.0, timeout_s=180.0)
    verdicts = [startup.judge(float(pid), [info(ASR0, pid=pid)], "asr") for pid in (1, 2, 3)]
    assert verdicts[-1] == Failed("asr_00 keeps dying", (ASR0,))
    assert isinstance(verdicts[1], Coming)


def test_the_timeout_names_what_is_late() -> None:
    """A pool that never comes is told by its own name, a process by its."""
    startup = Startup(10.0, timeout_s=180.0)
    late = startup.judge(190.0, [info(WEB), info(ASR0, "STARTING")], "web")
    assert late == Failed("asr_00 not ready after 180 s", (ASR0,))
    missing = startup.judge(190.0, [info(WEB)], "tts 0/1")
    assert missing == Failed("tts 0/1 not ready after 180 s", (WEB,))
