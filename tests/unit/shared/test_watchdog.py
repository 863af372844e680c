"""A wedged process ends itself. The dying is done by real child processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.process.watchdog import Watchdog

ROOT = Path(__file__).parents[3]

WEDGED_LOOP = """
def guilty():
    while True:
        pass

async def main():
    watchdog.start()
    await asyncio.sleep(0.1)
    guilty()
"""

WEDGED_THREAD = """
def guilty():
    watch.busy()
    threading.Event().wait()

async def main():
    watchdog.start()
    threading.Thread(target=guilty, name="compute", daemon=True).start()
    await asyncio.sleep(30)
"""

HEALTHY = """
def work(stopped):
    while not stopped.wait(0.05):
        watch.busy()
        watch.beat()
        watch.idle()

async def main():
    watchdog.start()
    stopped = threading.Event()
    thread = threading.Thread(target=work, args=(stopped,), name="compute")
    thread.start()
    await asyncio.sleep(1.5)
    stopped.set()
    thread.join()
    watchdog.stop()
    time.sleep(0.8)
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    script = (
        "import asyncio, threading, time\n"
        "from shared.process.watchdog import Watchdog\n"
        "watchdog = Watchdog(hang_s=0.5, feed_interval_s=0.1)\n"
        "watch = watchdog.watch('compute', limit_s=0.3)\n"
        f"{body}\nasyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.process
@pytest.mark.parametrize("body", [WEDGED_LOOP, WEDGED_THREAD], ids=["loop", "thread"])
def test_a_wedged_process_exits_with_the_guilty_stack(body: str) -> None:
    """Whether its loop hangs or one of its compute threads."""
    ended = run(body)
    assert ended.returncode == -signal.SIGALRM
    assert "guilty" in ended.stderr


@pytest.mark.process
def test_a_healthy_process_lives_and_a_stopped_watchdog_is_quiet() -> None:
    """Busy is not stuck, and after `stop` nobody is killed."""
    ended = run(HEALTHY)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.unit
def test_a_watch_is_alive_while_it_makes_progress() -> None:
    """Idle threads are alive; a busy one has its limit, counted from its last progress."""
    now = 0.0
    watchdog = Watchdog(clock=lambda: now)
    watch = watchdog.watch("compute", limit_s=5.0)
    now = 100.0
    assert watch.is_alive and watch.busy_s == 0.0
    watch.beat()
    assert watch.busy_s == 0.0
    watch.busy()
    now = 104.0
    watch.beat()
    now = 108.0
    assert watch.is_alive and watch.busy_s == 4.0
    now = 109.0
    assert watchdog.stuck == [watch]
    watch.idle()
    assert watchdog.stuck == []


@pytest.mark.unit
def test_an_unwatched_thread_no_longer_counts() -> None:
    """Threads come and go with their engines."""
    now = 0.0
    watchdog = Watchdog(clock=lambda: now)
    watch = watchdog.watch("compute", limit_s=1.0)
    watch.busy()
    now = 2.0
    watchdog.unwatch(watch)
    assert watchdog.stuck == []
