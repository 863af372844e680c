"""A loop that its own process blocks says so, and a test believes it unless the machine stood still."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.canary import Canary, blocked_lines

ROOT = Path(__file__).parents[3]

SCRIPT = """
import asyncio, time
from shared.process.blocked import BlockedLoop

async def main():
    BlockedLoop().start()
    await asyncio.sleep(0.1)
    {body}
    await asyncio.sleep(0.1)

asyncio.run(main())
"""


@pytest.mark.process
@pytest.mark.parametrize(("body", "is_blocked"), [("time.sleep(0.3)", True), ("await asyncio.sleep(0.3)", False)])
def test_only_a_blocked_loop_warns(body: str, is_blocked: bool) -> None:
    """Waiting on the loop is not blocking it."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert ("loop_blocked" in ended.stdout + ended.stderr) is is_blocked


def line_at(at_s: float, blocked_ms: int = 200) -> str:
    stamp = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"{stamp} [warning  ] loop_blocked [shared.process.blocked] program=asr slot=0 blocked_ms={blocked_ms}"


@pytest.mark.unit
def test_a_block_is_the_processes_own_unless_the_canary_felt_it() -> None:
    """Long ago nobody was watching, so nothing is forgiven."""
    assert len(blocked_lines(f"2026-01-01T00:00:00.000000Z [info] worker_started\n{line_at(1_700_000_000.0)}")) == 1


@pytest.mark.unit
def test_the_canary_forgives_what_overlaps_its_own_stalls() -> None:
    """A stall of the machine is felt by every process at once."""
    bird, now = Canary(), time.time()
    bird.stalls.append((now - 0.2, now))
    assert bird.felt(now - 0.25, now - 0.1)
    assert not bird.felt(now - 5.0, now - 4.0)
