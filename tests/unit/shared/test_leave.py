"""The last step of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.process.leave import leave, left_over
from shared.process.parent import SUPERVISOR_VARIABLE

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
STUCK = """
import sys, threading, time
from shared.log.setup import configure
from shared.process.leave import leave
from shared.settings import LogSettings
import structlog
configure("tts", 0, LogSettings())
threading.Thread(target=time.sleep, args=(600,), name="stuck").start()
structlog.get_logger("t").info("last_words")
sys.exit(leave(3))
"""


def test_who_has_no_thread_left_ends_as_ever() -> None:
    """The code is for the caller to return."""
    ended: list[int] = []
    before = left_over()
    assert leave(0, ended.append) == 0
    assert ended == ([] if not before else [0])


def test_a_thread_that_is_left_is_named() -> None:
    """A compute thread that loads a model, or one that hangs."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="tts-compute-1")
    thread.start()
    try:
        assert "tts-compute-1" in left_over()
        ended: list[int] = []
        leave(4, ended.append)
        assert ended == [4]
    finally:
        over.set()
        thread.join()


def test_a_stuck_thread_holds_up_no_exit_and_the_log_is_written() -> None:
    """Python would wait for it for ever, or abort if it were a daemon in native code."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert "last_words" in done.stderr


def test_a_parent_that_had_died_before_is_gone() -> None:
    """Whoever inherits a process while it is loaded must not be taken for its supervisor."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    code = "import sys; from shared.process.parent import Parent; sys.exit(Parent().is_gone)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def is_gone(pid: int) -> int:
        variables = environment | {SUPERVISOR_VARIABLE: str(pid)}
        return subprocess.run([sys.executable, "-c", code], env=variables, check=False).returncode

    assert is_gone(ended.pid) == 1
    assert is_gone(os.getpid()) == 0
    assert is_gone(os.getppid()) == 0
