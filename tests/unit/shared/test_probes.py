"""The three pages of a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.errors import ConfigError
from shared.process.lag import LoopLag
from shared.process.probes import Probes, is_loopback, thread_budget, thread_count

pytestmark = pytest.mark.link


class Readiness:
    """What the process would say."""

    def __init__(self) -> None:
        self.is_ready = False

    def __call__(self) -> tuple[bool, dict[str, Any]]:
        return self.is_ready, {"pools": 3}


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest_asyncio.fixture
async def probes(readiness: Readiness) -> AsyncIterator[Probes]:
    made = Probes(0, readiness, 7)
    await made.start()
    yield made
    await made.close()


async def get(probes: Probes, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{probes.port}{path}") as response:
        return response.status, await response.text()


async def test_readiness_is_told_with_its_facts(probes: Probes, readiness: Readiness) -> None:
    """503 until ready: load balancers look at the status, people at the facts."""
    assert await get(probes, "/readyz") == (503, '{"ready": false, "pools": 3}')
    readiness.is_ready = True
    assert await get(probes, "/readyz") == (200, '{"ready": true, "pools": 3}')


async def test_health_is_the_loops_own_answer(probes: Probes) -> None:
    """A process that is not ready is healthy all the same."""
    assert (await get(probes, "/healthz"))[0] == 200


async def test_metrics_tell_threads_beside_their_budget(probes: Probes) -> None:
    """So that an alert can compare them; the version, too."""
    status, text = await get(probes, "/metrics")
    assert status == 200
    assert f"xz_process_threads {float(thread_count())}" in text
    assert "xz_thread_budget 7.0" in text
    assert "xz_build_info{" in text and "xz_loop_lag_seconds_count" in text


async def test_only_these_pages_exist_and_only_get(probes: Probes) -> None:
    """Nothing else is served."""
    assert (await get(probes, "/"))[0] == 404
    async with aiohttp.ClientSession() as http, http.post(f"http://127.0.0.1:{probes.port}/metrics") as response:
        assert response.status == 405


async def test_probes_make_no_thread(probes: Probes) -> None:
    """A hundred requests on the process's own loop."""
    before = thread_count()
    for _ in range(100):
        await get(probes, "/metrics")
    assert thread_count() == before


async def test_a_taken_port_is_a_config_error(probes: Probes, readiness: Readiness) -> None:
    """Naming the port."""
    with pytest.raises(ConfigError, match=str(probes.port)):
        await Probes(probes.port, readiness, 1).start()


async def test_a_blocked_loop_is_seen() -> None:
    """The longest lag since the last question, then it starts anew."""
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - blocking the loop is the point
    await asyncio.sleep(0.01)
    assert lag.take_max_ms() >= 150.0
    assert lag.take_max_ms() == 0.0
    lag.stop()


def test_the_budget_is_a_sum_of_constants() -> None:
    """Interpreter, log writer; zmq 2; libuv 4 where names are resolved; and what the role adds."""
    assert thread_budget(link=False) == 2
    assert thread_budget(link=True) == 4
    assert thread_budget(link=True, resolves_names=True, extra=3) == 11


@pytest.mark.parametrize(
    ("address", "is_own"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False), ("::ffff:10.0.0.1", False),
     ("fd00::1", False), ("", False), ("unix", False)],
)  # fmt: skip
def test_who_is_of_this_machine(address: str, is_own: bool) -> None:
    """Pages that name devices are for it alone; metrics may be opened to others."""
    assert is_loopback(address) is is_own
