"""Whole pools are lost: how long one is waited for, what a person hears when nobody comes, and what comes back.

The voice of this cluster is one that does not say the same twice, so a segment that breaks off is not gone on with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.actor import PHASES, Actor, Phase
from tests.fakes.cluster import Cluster, off_loop
from tests.fakes.sounds import prompt_sounds, runs_of
from tests.fakes.stage import StageDirector
from tests.fakes.troupe import ROLES, SLOTS, Troupe, performance, theatre

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ALL = tuple(f"{role}-{slot}" for role in ROLES for slot in SLOTS)
DEATHS = "xz_worker_deaths_total"
CLIPPED = "xz_segments_clipped_total"


@pytest.fixture(scope="module")
def open_theatre() -> Iterator[tuple[Cluster, StageDirector]]:
    with theatre(deterministic=False) as (cluster, stage):
        cluster.forgiven.update(ALL)
        # Six processes start at once here, beside the router.
        cluster.stunned.update(("router-0", "web-0"))
        yield cluster, stage


@pytest.fixture
async def troupe(open_theatre: tuple[Cluster, StageDirector]) -> AsyncIterator[Troupe]:
    async with performance(*open_theatre) as evening:
        yield evening
        await evening.leave()
        await evening.restart(*ALL)


async def retire(troupe: Troupe, *names: str) -> None:
    """Stopped until the router has buried them. When they go on, they join as somebody new, at once."""
    pids = [troupe.cluster.processes[name].pid for name in names]
    troupe.freeze(*names)

    async def are_gone() -> bool:
        return not await troupe.identities(pids)

    await troupe.until(are_gone)


async def kill_all(troupe: Troupe, *names: str) -> None:
    for name in names:
        troupe.cluster.processes[name].kill()
    for name in names:
        await off_loop(troupe.cluster.kill, name)


def prompts_heard(actor: Actor) -> list[str]:
    """The names of the canned prompts, in order."""
    return [run.name for run in runs_of(actor.device.audio, prompt_sounds()) if run.is_whole]


async def test_a_successor_within_five_seconds_saves_the_turn(troupe: Troupe) -> None:
    """The only worker of each pool dies; nobody hears an apology, because another one comes in time."""
    understudies = [f"{role}-1" for role in ROLES]
    await retire(troupe, *understudies)
    phases: tuple[Phase, ...] = ("listening", "holding", "thinking", "synthesising")
    for phase in phases:
        await (await troupe.enter(phase)).take_position()
    await kill_all(troupe, *(f"{role}-0" for role in ROLES))
    await asyncio.sleep(1.0)
    troupe.thaw(*understudies)
    await troupe.finish()
    assert troupe.complaints() == []


async def test_when_nobody_comes_the_person_is_told(troupe: Troupe) -> None:
    """After five seconds a prompt in the person's language; the line stays open, and later all is well."""
    await kill_all(troupe, "asr-0", "asr-1", "tts-0", "tts-1")
    speaker, english, chinese, another = [await troupe.enter("idle") for _ in range(4)]
    english.device.listen("detect", text="tell me a story")
    chinese.device.listen("detect", text="给我讲个故事")
    speaker.go_on()
    for actor in (speaker, english, chinese):
        await actor.device.turns_over()
    assert prompts_heard(speaker) == prompts_heard(english) == ["busy.en"]
    assert prompts_heard(chinese) == ["busy.zh"]
    await troupe.restart("asr-0", "tts-0", "asr-1", "tts-1")

    await kill_all(troupe, "session-0", "session-1")
    another.device.listen("detect", text="tell me another one")
    await another.device.turns_over()
    assert prompts_heard(another) == ["filler.en", "busy.en"]
    await troupe.restart("session-0", "session-1")

    async def talk(actor: Actor) -> None:
        stops, heard = len(actor.device.texts("tts", "stop")), len(actor.device.texts("stt"))
        actor.say()
        await actor.device.turns_over(stops + 1)
        assert actor.name in actor.device.texts("stt")[heard]["text"]
        assert actor.device.texts("tts", "sentence_start")[-1]["text"].startswith(actor.name)

    async with asyncio.TaskGroup() as group:
        for actor in troupe.actors:
            group.create_task(talk(actor))


async def test_a_voice_that_varies_breaks_off_and_goes_on_with_the_next_segment(troupe: Troupe) -> None:
    """What was buffered is heard to its end, no word twice, and the rest of the reply is there."""
    clipped = await troupe.metric(CLIPPED)
    actor = await troupe.enter("speaking")
    await actor.take_position()
    pid = actor.held_in()
    await troupe.kill(next(name for name in ALL if troupe.cluster.processes[name].pid == pid))
    await troupe.finish()
    first, second = actor.runs(actor.device.audio, 0)
    assert (first.name, second.name) == ("first", "second") and not first.is_whole and second.is_whole
    assert await troupe.metric(CLIPPED) == clipped + 1


async def test_what_kills_two_workers_is_refused(troupe: Troupe) -> None:
    """A text that no voice survives: the person hears an apology, and the third worker lives."""
    deaths = await troupe.metric(DEATHS)
    actor = await troupe.enter("idle")
    troupe.stage.order("synthesising", actor.name, "exit")
    actor.say()
    await actor.device.turns_over()
    assert prompts_heard(actor) == ["apology.en"]
    assert await troupe.metric(DEATHS) == deaths + 2
    assert await troupe.metric("xz_streams_poisoned_total", pool="tts") > 0
    await troupe.restart("tts-0", "tts-1")
    assert await troupe.metric(DEATHS) == deaths + 2


async def test_the_death_of_all_does_not_cascade(troupe: Troupe) -> None:
    """Every worker at once: each device, in whatever phase, is served or apologised to, and afterwards served."""
    # Who goes on listening to nothing for as long as processes take to start on a busy machine may be told so twice.
    await troupe.set_scene(*(phase for phase in PHASES if phase != "listening"))
    deaths, poisoned = await troupe.metric(DEATHS), await troupe.metric("xz_streams_poisoned_total")
    await kill_all(troupe, *ALL)
    for actor in troupe.actors:
        actor.stop_microphone()
    for name in ALL:
        role, _, slot = name.partition("-")
        troupe.cluster.start(role, int(slot))
    await troupe.finish()
    for actor in troupe.actors:
        assert not actor.device.is_gone
        assert len(actor.device.texts("tts", "start")) == len(actor.device.texts("tts", "stop")) == 1
        last = actor.runs(actor.device.audio, 0)[-1]
        assert last.is_whole and last.name in ("second", "apology.en", "busy.en"), actor
    await troupe.restart()
    assert await troupe.metric(DEATHS) == deaths + len(ALL)
    assert await troupe.metric("xz_streams_poisoned_total") == poisoned
    async with asyncio.TaskGroup() as group:
        for actor in troupe.actors:
            actor.say()
            group.create_task(actor.device.turns_over(2))
    for actor in troupe.actors:
        assert actor.name in actor.device.texts("tts", "sentence_start")[-1]["text"], actor
