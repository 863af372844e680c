"""Workers are lost in every way while devices are in every phase, and no device notices more than a pause.

Each test is one evening: eighteen devices, two in each phase (one with each session worker), held there by their
scripted engines; then something happens to one worker of each role; then everybody goes on and is judged
(tests/fakes/actor.py): the connection stays, what was said is heard exactly once, one `tts stop` for one `tts start`,
and packet for packet the whole reply. Only whose session was lost in the middle of a reply may hear an apology instead
of the rest.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.fakes.actor import Actor
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.people import device, said
from tests.fakes.stage import Point, StageDirector
from tests.fakes.troupe import ROLES, SLOTS, Troupe, performance, theatre

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

POINT_OF: dict[str, Point] = {"asr": "recognising", "session": "thinking", "tts": "synthesising"}
"""Where an engine of the role takes an order."""

NOT_IN_POOL = "xz_link_dropped_total"
DEATHS = "xz_worker_deaths_total"


@pytest.fixture(scope="module")
def stage_and_cluster() -> Iterator[tuple[Cluster, StageDirector]]:
    with theatre() as open_theatre:
        yield open_theatre


@pytest.fixture
async def troupe(stage_and_cluster: tuple[Cluster, StageDirector]) -> AsyncIterator[Troupe]:
    async with performance(*stage_and_cluster) as evening:
        yield evening
        await evening.restart(*(f"{role}-{slot}" for role in ROLES for slot in SLOTS))


def names_of(slot: int) -> list[str]:
    return [f"{role}-{slot}" for role in ROLES]


async def cut_by_loss_of(troupe: Troupe, *names: str) -> Callable[[Actor], bool]:
    """Who may be cut: in the middle of a reply, with its session in one of these processes."""
    devices = {mac for name in names for mac in (await troupe.streams_on(name)).values()}
    return lambda actor: actor.phase == "answering" and actor.mac in devices


async def victims_of(troupe: Troupe, names: list[str]) -> list[dict[str, str]]:
    return [await troupe.streams_on(name) for name in names]


async def all_moved(troupe: Troupe, victims: list[dict[str, str]]) -> None:
    began_s = time.monotonic()
    await asyncio.gather(*(troupe.moved(streams, began_s) for streams in victims))


async def test_killed(troupe: Troupe, slot: int = 0) -> None:
    """SIGKILL, one role after the other: the sockets close, and the streams are elsewhere at once."""
    await troupe.set_scene()
    deaths = await troupe.metric(DEATHS)
    may_be_cut = await cut_by_loss_of(troupe, f"session-{slot}")
    for role in ("tts", "asr", "session"):
        await troupe.kill(f"{role}-{slot}")
    await troupe.finish()
    assert troupe.complaints(may_be_cut) == []
    assert await troupe.metric(DEATHS) == deaths + 3
    assert await troupe.metric("xz_segments_clipped_total") == 0


async def test_frozen_until_judged_dead_and_then_revived(troupe: Troupe) -> None:
    """SIGSTOP: dead by silence. SIGCONT: what it still says is dropped, it is told to leave, works under a new name."""
    await troupe.set_scene()
    names = names_of(0)
    pids = [troupe.cluster.processes[name].pid for name in names]
    deaths, late = await troupe.metric(DEATHS), await troupe.metric(NOT_IN_POOL)
    before = await troupe.identities(pids)
    may_be_cut = await cut_by_loss_of(troupe, "session-0")
    victims = await victims_of(troupe, names)
    troupe.freeze(*names)
    troupe.release()
    await all_moved(troupe, victims)
    troupe.thaw(*names)
    await troupe.finish()
    assert troupe.complaints(may_be_cut) == []
    assert await troupe.metric(DEATHS) == deaths + 3
    await troupe.restart()
    after = await troupe.identities(pids)
    assert len(after) == len(before) == 3 and not before & after
    assert await troupe.metric(NOT_IN_POOL) > late
    await troupe.leave()
    # Both workers of each role serve again.
    await troupe.set_scene("holding", "synthesising")
    await troupe.finish()
    assert troupe.complaints() == []


async def test_a_stall_is_not_a_death(troupe: Troupe) -> None:
    """SIGSTOP for a second: nobody is moved, nobody is cut, and it takes new streams after two clean beats."""
    await troupe.set_scene()
    deaths = await troupe.metric(DEATHS)
    names = names_of(1)
    before = await victims_of(troupe, names)
    troupe.freeze(*names)
    await asyncio.sleep(1.0)
    troupe.thaw(*names)
    after = await victims_of(troupe, names)
    assert all(streams and streams.keys() <= kept.keys() for streams, kept in zip(before, after, strict=True))
    await troupe.finish()
    assert troupe.complaints() == []
    assert await troupe.metric(DEATHS) == deaths


async def test_a_pause_of_the_router_is_nobodys_death(troupe: Troupe) -> None:
    """SIGSTOP for two and a half seconds: what arrived meanwhile is read before any deadline counts."""
    await troupe.set_scene()
    deaths = await troupe.metric(DEATHS)
    troupe.freeze("router-0")
    troupe.release()
    await asyncio.sleep(2.5)
    troupe.thaw("router-0")
    await troupe.finish()
    assert troupe.complaints() == []
    assert await troupe.metric(DEATHS) == deaths
    assert await troupe.metric("xz_segments_clipped_total") == 0


async def test_a_worker_whose_interpreter_is_held_ends_itself(troupe: Troupe) -> None:
    """A call that never gives the lock back: dead by silence, and its watchdog ends it with the guilty stack."""
    await troupe.set_scene()
    names = names_of(0)
    may_be_cut = await cut_by_loss_of(troupe, "session-0")
    victims = await victims_of(troupe, names)
    for role, name in zip(ROLES, names, strict=True):
        await troupe.wedge(name, POINT_OF[role], "hold_gil")
    troupe.release()
    await all_moved(troupe, victims)
    await troupe.finish()
    assert troupe.complaints(may_be_cut) == []
    for name in names:
        assert await troupe.ended(name) == -signal.SIGALRM
        assert "_hold_gil" in troupe.cluster.log(name)


async def test_streams_leave_a_worker_whose_compute_thread_hangs(troupe: Troupe) -> None:
    """Its loop still answers: it is no death, but it says itself that it has stalled, and is asked for nothing."""
    await troupe.set_scene()
    deaths = await troupe.metric(DEATHS)
    victims = await troupe.streams_on("tts-1")
    await troupe.wedge("tts-1", "synthesising", "hang")
    troupe.release()
    await all_moved(troupe, [victims])
    await troupe.finish()
    assert troupe.complaints() == []
    assert await troupe.metric(DEATHS) == deaths
    assert await troupe.metric("xz_stream_failures_total", code="stalled", pool="tts") > 0


async def test_without_web_talk_goes_on(troupe: Troupe) -> None:
    """The web process is killed in the middle of all turns; its successor lets new devices in."""
    await troupe.set_scene("hearing", "thinking", "speaking")
    await off_loop(troupe.cluster.kill, "web-0")
    await troupe.finish()
    assert troupe.complaints() == []
    troupe.cluster.start("web")
    await off_loop(troupe.cluster.wait_ready)
    async with device(troupe.cluster, 1, mode="manual") as newcomer:
        assert newcomer.session in (await newcomer.ask(said("hello"))).reply
