"""What every brain must pass: it answers, it ends once, it fails in time, and a cancelled one leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from shared.errors import EngineError
from shared.ids import StreamId
from shared.settings import EngineChoice
from tests.fakes.llm import FakeLlm, Script
from tests.fakes.session import FakeMcpDevice, FakeRouter
from workers.session.brain.base import Brain, Question, Say
from workers.session.brain.model import ModelBrain
from workers.session.brain.offline import OfflineBrain
from workers.session.dialogue import Message
from workers.session.llm.model import ChatModel
from workers.session.llm.registry import build_model
from workers.session.mcp import DeviceMcp
from workers.session.tools import DeviceTools, TurnTools

pytestmark = pytest.mark.contract

Kind = Literal["offline", "compatible", "scripted"]
KINDS: tuple[Kind, ...] = ("offline", "compatible", "scripted")
MODELS: tuple[Kind, ...] = ("compatible", "scripted")
FIRST_TIMEOUT_S = 0.2


@dataclass
class Bench:
    """One brain with what it needs."""

    kind: Kind
    server: FakeLlm
    router: FakeRouter
    tools: DeviceTools
    model: ChatModel | None = None

    def build(self, **options: Any) -> Brain:
        """`options` are those of the scripted model, or of the fake server's next answers."""
        if self.kind == "offline":
            return OfflineBrain(lambda: 0.0, 8.0)
        if self.kind == "scripted":
            choice = EngineChoice(name="S", type="scripted", options={"reply": "Hello there.", **options})
        else:
            url = {"url": self.server.base_url, "model_name": "m"}
            choice = EngineChoice(name="C", type="openai", options=url)
            self.server.default = script_of(options)
        self.model = build_model(choice)
        return ModelBrain(self.model, prompt=lambda: "Be kind.", first_timeout_s=FIRST_TIMEOUT_S)

    def question(self, text: str) -> Question:
        return Question(
            text=text, tongue="en", messages=[Message("user", text)], tools=TurnTools(self.tools, self._announce)
        )

    async def _announce(self, n: int) -> None:
        return


def script_of(options: dict[str, Any]) -> Script:
    """The fake server's answer that is like the scripted model's."""
    faults: dict[str, Any] = {"hang": "hang", "midstream": "malformed", "": ""}
    fail = options.get("fail", "")
    reply: str = options.get("reply", "Hello there.")
    script = Script(
        tokens=tuple(reply[n : n + 5] for n in range(0, len(reply), 5)),
        first_token_s=options.get("first_token_ms", 0) / 1000,
        token_s=options.get("token_ms", 0) / 1000,
    )
    return replace(script, status=503) if fail == "connect" else replace(script, fault=faults[fail])


@pytest.fixture
async def server() -> AsyncIterator[FakeLlm]:
    server = FakeLlm()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest, server: FakeLlm) -> AsyncIterator[Bench]:
    router = FakeRouter(StreamId(1), FakeMcpDevice())
    tools = DeviceTools(DeviceMcp(1.0), lambda message: None)
    bench = Bench(request.param, server, router, tools)
    yield bench
    tools.close()
    if bench.model is not None:
        await bench.model.close()


def only(*kinds: Kind) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", kinds, indirect=True)


async def said(brain: Brain, question: Question) -> str:
    """Everything it says; an end by returning is the one end there is."""
    async with asyncio.timeout(10):
        async with aclosing(brain.reply(question)) as outputs:
            return "".join([output.text async for output in outputs if isinstance(output, Say)])


async def test_it_answers(bench: Bench) -> None:
    """A question has an answer."""
    assert await said(bench.build(), bench.question("hello"))


async def test_it_answers_an_empty_question(bench: Bench) -> None:
    """An empty question is no failure."""
    await said(bench.build(), bench.question(""))


async def test_it_answers_twice_alike(bench: Bench) -> None:
    """A brain keeps nothing of a question for the next one."""
    brain = bench.build()
    assert await said(brain, bench.question("hello")) == await said(brain, bench.question("hello"))


async def test_it_reads_5000_characters(bench: Bench) -> None:
    """A very long question is answered, too."""
    assert await said(bench.build(), bench.question("long words " * 455))


@only(*MODELS)
async def test_it_says_5000_characters(bench: Bench) -> None:
    """A very long answer arrives whole."""
    reply = "It goes on. " * 420
    assert await said(bench.build(reply=reply), bench.question("hello")) == reply


@only(*MODELS)
async def test_an_empty_answer_is_an_answer(bench: Bench) -> None:
    """A model may say nothing; that is no failure."""
    assert await said(bench.build(reply=""), bench.question("hello")) == ""


@only(*MODELS)
async def test_cancelled_before_the_first_word(bench: Bench) -> None:
    """A cancelled brain says nothing more and lets its server go."""
    brain = bench.build(fail="hang")
    task = asyncio.create_task(said(brain, bench.question("hello")), name="said")
    if bench.kind == "compatible":
        await bench.server.asked.wait()
    else:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if bench.kind == "compatible":
        await asyncio.wait_for(bench.server.left.wait(), 5)


@only(*MODELS)
async def test_cancelled_in_the_middle(bench: Bench) -> None:
    """The same behind the first words; the next question is answered as if nothing had been."""
    brain = bench.build(reply="one two three four five six seven", token_ms=20)
    outputs = brain.reply(bench.question("hello"))
    assert isinstance(await anext(outputs), Say)
    await outputs.aclose()
    if bench.kind == "compatible":
        await asyncio.wait_for(bench.server.left.wait(), 5)
    assert await said(brain, bench.question("hello")) == "one two three four five six seven"


@only(*MODELS)
async def test_a_failure_has_a_code(bench: Bench) -> None:
    """What cannot be reached fails as EngineError, not as an exception of a library."""
    with pytest.raises(EngineError) as failure:
        await said(bench.build(fail="connect"), bench.question("hello"))
    assert failure.value.code in ("llm_connect", "llm_server")


@only(*MODELS)
async def test_a_failure_in_the_middle_comes_behind_the_words(bench: Bench) -> None:
    """What was said before stays said, then the failure comes, once."""
    brain = bench.build(reply="one two three four", fail="midstream")
    heard = []
    with pytest.raises(EngineError):
        async for output in brain.reply(bench.question("hello")):
            heard.append(output)
    assert Say("one two three four").text.startswith("".join(o.text for o in heard if isinstance(o, Say)))
    assert heard


@only(*MODELS)
async def test_a_hang_fails_within_its_deadline(bench: Bench) -> None:
    """No word within the deadline is a failure with a code of its own."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(EngineError) as failure:
        await said(bench.build(fail="hang"), bench.question("hello"))
    assert failure.value.code == "llm_first_token_timeout"
    assert asyncio.get_running_loop().time() - began >= FIRST_TIMEOUT_S
