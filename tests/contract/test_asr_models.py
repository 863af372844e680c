"""The models a worker has loaded: real child processes, with a model that fails when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.errors import EngineError
from tests.fakes.link_rig import until
from workers.asr.engines.engine import Brief, Recogniser
from workers.asr.engines.model_process import ModelSpec
from workers.asr.engines.model_recogniser import ModelEngine, ModelRecogniser
from workers.asr.engines.models import Models
from workers.asr.recognisers import Recognisers

pytestmark = pytest.mark.contract

WORKS, FAILS = b"\x00" * 640, b"\x01" * 640


def spec(name: str, how: str = "", where: str = "", cue: str = "") -> ModelSpec:
    return ModelSpec(name, name, "tests.fakes.faulty_model", {"how": how, "where": where, "cue": cue})


@pytest_asyncio.fixture
async def models() -> AsyncIterator[Models]:
    models = Models(2, stuck_s=1.0)
    yield models
    await models.close()


def recogniser(models: Models, of: ModelSpec, losses: list[EngineError] | None = None) -> ModelRecogniser:
    told = losses if losses is not None else []
    return ModelRecogniser(models, of, None, told.append)


async def text_of(one: Recogniser, pcm: bytes = WORKS, language: str | None = None) -> str:
    one.begin(Brief("s", 1, language), lambda text: None)
    one.feed(pcm)
    async with asyncio.timeout(30):
        transcript = await one.finish()
    assert transcript.language == language
    return transcript.text


def pid_of(models: Models, name: str) -> int:
    return models.loaded[name].pid


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_fifty_sections_of_a_model_have_one_process(models: Models) -> None:
    """And all their recognisers are at work on it at the same time, each with its own answer and language."""
    made = [await ModelEngine(models, spec("base"), None).make(lambda error: None) for _ in range(50)]
    texts = await asyncio.gather(*(text_of(one, WORKS * (1 + at), f"l{at}") for at, one in enumerate(made)))
    assert texts == [f"{640 * (1 + at)}" for at in range(50)]
    assert set(models.loaded) == {"base"}


async def test_the_idlest_model_makes_room(models: Models) -> None:
    """No more than the limit are held, and the process of the one that leaves is gone before the new one is there."""
    for name in ("a", "b"):
        await text_of(recogniser(models, spec(name)))
    leaving = pid_of(models, "a")
    assert await text_of(recogniser(models, spec("c"))) == "640"
    assert set(models.loaded) == {"b", "c"}
    assert not is_there(leaving)


async def test_sound_waits_for_a_model_that_has_to_be_loaded(models: Models) -> None:
    """What is fed meanwhile is heard whole and in order; nobody waits in `feed`."""
    one = recogniser(models, spec("a"))
    one.begin(Brief("s", 1), lambda text: None)
    for _ in range(10):
        one.feed(WORKS)
    assert models.loaded == {}
    async with asyncio.timeout(30):
        assert (await one.finish()).text == "6400"


async def test_one_in_use_keeps_its_model() -> None:
    """Who wants another one waits for it, and has it when the first has done."""
    models = Models(1)
    first, second = recogniser(models, spec("a")), recogniser(models, spec("b"))
    first.begin(Brief("s", 1), lambda text: None)
    await until(lambda: models.loaded)
    second.begin(Brief("s", 2), lambda text: None)
    second.feed(WORKS)
    finishing = asyncio.create_task(second.finish())
    first.feed(WORKS)
    assert (await first.finish()).text == "640"
    async with asyncio.timeout(30):
        assert (await finishing).text == "640"
    assert set(models.loaded) == {"b"}
    await models.close()


async def test_making_a_recogniser_turns_nobody_out(models: Models) -> None:
    """A section that is used seldom costs the others nothing until somebody speaks to it."""
    for name in ("a", "b"):
        await ModelEngine(models, spec(name), None).make(lambda error: None)
    third = await ModelEngine(models, spec("c"), None).make(lambda error: None)
    assert set(models.loaded) == {"a", "b"}
    assert await text_of(third) == "640"


async def test_an_utterance_that_raises_fails_alone(models: Models) -> None:
    """The others on the same model go on, and the process stays."""
    of = spec("a", "raise", "finish")
    beside, failing = recogniser(models, of), recogniser(models, of)
    beside.begin(Brief("s", 1), lambda text: None)
    beside.feed(WORKS)
    with pytest.raises(EngineError) as failure:
        await text_of(failing, FAILS)
    assert (failure.value.code, failure.value.retryable, failing.is_usable) == ("engine_raised", True, False)
    pid = pid_of(models, "a")
    assert (await beside.finish()).text == "640"
    assert await text_of(recogniser(models, of)) == "640"
    assert pid_of(models, "a") == pid


async def test_one_that_raises_while_it_listens_is_told_at_once(models: Models) -> None:
    """Its holder need not wait for the end of speech; then it can only be closed."""
    losses: list[EngineError] = []
    one = recogniser(models, spec("a", "raise", "feed"), losses)
    one.begin(Brief("s", 1), lambda text: None)
    one.feed(FAILS)
    await until(lambda: losses)
    assert [error.code for error in losses] == ["engine_raised"]
    with pytest.raises(EngineError):
        one.feed(WORKS)
    await one.close()


@pytest.mark.parametrize("where", ["feed", "finish"])
async def test_a_process_that_dies_fails_all_of_it_and_is_made_anew(models: Models, where: str) -> None:
    """Each of its utterances gets one typed error; the next one is heard by a new process."""
    of = spec("a", "exit", where)
    losses: list[EngineError] = []
    beside = recogniser(models, of, losses)
    beside.begin(Brief("s", 1), lambda text: None)
    with pytest.raises(EngineError) as failure:
        await text_of(recogniser(models, of), FAILS)
    assert failure.value.code == "engine_died"
    await until(lambda: losses)
    assert [error.code for error in losses] == ["engine_died"] and not beside.is_usable
    await beside.close()
    assert await text_of(recogniser(models, of)) == "640"


async def test_a_stuck_process_is_killed(models: Models, tmp_path: Path) -> None:
    """Even if the utterance that it hangs on has been given up: others wait for it."""
    hangs = tmp_path / "hangs"
    of = spec("a", "sleep", "finish", str(hangs))
    stuck, behind = recogniser(models, of), recogniser(models, of)
    stuck.begin(Brief("s", 1), lambda text: None)
    stuck.feed(FAILS)
    giving_up = asyncio.create_task(stuck.finish())
    await until(hangs.exists)
    pid = pid_of(models, "a")
    giving_up.cancel()
    await asyncio.gather(giving_up, return_exceptions=True)
    await stuck.close()
    with pytest.raises(EngineError) as failure:
        await text_of(behind)
    assert failure.value.code == "engine_died"
    await until(lambda: not is_there(pid))
    assert await text_of(recogniser(models, of)) == "640"


async def test_a_cancelled_utterance_leaves_at_once(models: Models) -> None:
    """Its recogniser can begin again while the model computes for another one, and hears only what comes then."""
    of = spec("a", "pause", "finish")
    busy, hasty = recogniser(models, of), recogniser(models, of)
    busy.begin(Brief("s", 1), lambda text: None)
    busy.feed(FAILS)
    computing = asyncio.create_task(busy.finish())
    await until(lambda: models.loaded)
    for _ in range(20):
        hasty.begin(Brief("s", 2), lambda text: None)
        hasty.feed(WORKS * 5)
        await hasty.cancel()
    assert await text_of(hasty) == "640"
    assert (await computing).text == "640"


@pytest.mark.parametrize("how", ["raise", "exit"])
async def test_a_model_that_cannot_be_loaded_is_named(models: Models, how: str) -> None:
    """When the recogniser is made, and when an utterance needs it; its place is free again."""
    of = spec("broken", how, "make")
    with pytest.raises(EngineError, match="broken") as failure:
        await ModelEngine(models, of, None).make(lambda error: None)
    assert failure.value.code == "engine_start"
    with pytest.raises(EngineError, match="broken"):
        await text_of(recogniser(models, of))
    for name in ("a", "b"):
        await text_of(recogniser(models, spec(name)))
    assert set(models.loaded) == {"a", "b"}


async def test_an_idle_process_that_is_killed_costs_no_utterance(models: Models) -> None:
    """The next one has it loaded again."""
    one = recogniser(models, spec("a"))
    await text_of(one)
    os.kill(pid_of(models, "a"), signal.SIGKILL)
    await until(lambda: not models.loaded)
    assert await text_of(one) == "640"


async def test_nothing_is_left_after_close(models: Models) -> None:
    """Loaded or still loading: no process stays, and who waits gets an error."""
    await text_of(recogniser(models, spec("a")))
    pid = pid_of(models, "a")
    waiting = recogniser(models, spec("b"))
    waiting.begin(Brief("s", 1), lambda text: None)
    finishing = asyncio.create_task(waiting.finish())
    await asyncio.sleep(0)
    await models.close()
    with pytest.raises(EngineError):
        await finishing
    assert not is_there(pid)


async def test_a_model_that_nobody_has_chosen_does_not_keep_the_worker_from_starting(models: Models) -> None:
    """The chosen engine serves; who asks for the other one is told. A chosen one that cannot be loaded is refused."""
    good = ModelEngine(models, spec("good"), None)
    broken = ModelEngine(models, spec("broken", "raise", "make"), None)
    recognisers = Recognisers({"good": good, "broken": broken}, 2)
    await recognisers.start("good")
    with pytest.raises(EngineError, match="broken"):
        await recognisers.take("broken", lambda error: None)
    await recognisers.close()
    with pytest.raises(EngineError, match="broken"):
        await Recognisers({"good": good, "broken": broken}, 2).start("broken")
