"""The OpenAI-compatible model against a server with every fault a server can have."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from shared.errors import EngineError
from shared.settings import EngineChoice
from tests.fakes.llm import FakeLlm, Script
from workers.session.brain.model import TRIES, ModelBrain
from workers.session.dialogue import Message, ToolCall
from workers.session.llm.model import ChatModel, ModelCalls, ModelRequest, ModelText, Piece
from workers.session.llm.registry import build_model

pytestmark = pytest.mark.contract

ASKED = ModelRequest([Message("system", "Be kind."), Message("user", "my secret question")])


@pytest.fixture
async def server() -> AsyncIterator[FakeLlm]:
    server = FakeLlm()
    await server.start()
    yield server
    await server.stop()


def model_at(url: str, **options: Any) -> ChatModel:
    return build_model(EngineChoice(name="C", type="openai", options={"url": url, "model_name": "m", **options}))


@pytest.fixture
async def model(server: FakeLlm) -> AsyncIterator[ChatModel]:
    model = model_at(server.base_url, temperature=0.3, max_tokens=50, api_key="k")
    yield model
    await model.close()


async def pieces_of(model: ChatModel, request: ModelRequest = ASKED) -> list[Piece]:
    return [piece async for piece in model.stream(request)]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, ModelText))


async def test_the_request_holds_what_is_configured(server: FakeLlm, model: ChatModel) -> None:
    """Model, messages and only the configured parameters, under the configured key."""
    assert text_of(await pieces_of(model)) == "Hello there."
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "my secret question"}]
    expected = {"model": "m", "messages": messages, "stream": True, "temperature": 0.3, "max_tokens": 50}
    assert server.requests == [expected]
    assert server.authorizations == ["Bearer k"]


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        (Script(status=401), "llm_auth", False),
        (Script(status=403), "llm_auth", False),
        (Script(status=404), "llm_not_found", False),
        (Script(status=400), "llm_refused", False),
        (Script(status=429), "llm_rate_limited", False),
        (Script(status=500), "llm_server", True),
        (Script(tokens=(), fault="malformed"), "llm_malformed", True),
        (Script(tokens=(), fault="cut"), "llm_connect", True),
        (Script(tokens=(), fault="error_event"), "llm_upstream", False),
    ],
)
async def test_faults_have_codes(server: FakeLlm, model: ChatModel, script: Script, code: str, retryable: bool) -> None:
    """Each fault is told apart, and no message repeats what the server or the person said."""
    server.default = script
    with pytest.raises(EngineError) as failure:
        await pieces_of(model)
    assert (failure.value.code, failure.value.retryable) == (code, retryable)
    assert "secret" not in str(failure.value)
    assert "prompt" not in str(failure.value)
    assert len(server.requests) == 1, "the client itself must not try again"


async def test_nobody_listens(free_port: int) -> None:
    """A server that is not there fails at once."""
    model = model_at(f"http://127.0.0.1:{free_port}/v1")
    with pytest.raises(EngineError) as failure:
        await pieces_of(model)
    assert failure.value.code == "llm_connect"
    await model.close()


@pytest.mark.parametrize("fault", ["cut", "malformed", "error_event"])
async def test_words_before_a_fault_arrive(server: FakeLlm, model: ChatModel, fault: Any) -> None:
    """A stream that breaks gives what came before, then fails."""
    server.default = Script(tokens=("One. ", "Two"), fault=fault)
    heard: list[Piece] = []
    with pytest.raises(EngineError):
        async for piece in model.stream(ASKED):
            heard.append(piece)
    assert text_of(heard) == "One. Two"


async def test_reasoning_is_not_said(server: FakeLlm, model: ChatModel) -> None:
    """Neither in tags nor in its own field; each chunk of it still shows that the model lives."""
    server.default = Script(tokens=("<thi", "nk>hm</th", "ink>Hello", "."), reasoning=2)
    pieces = await pieces_of(model)
    assert text_of(pieces) == "Hello."
    assert len(pieces) >= 6


async def test_tool_calls_come_last_and_whole(server: FakeLlm, model: ChatModel) -> None:
    """Deltas are merged, parallel calls kept apart."""
    server.default = Script(tokens=("Wait.",), calls=(("light", '{"on": true}'), ("fan", "{}")))
    tool = {"type": "function", "function": {"name": "light", "description": "", "parameters": {}}}
    pieces = await pieces_of(model, ModelRequest(ASKED.messages, [tool]))
    assert pieces[-1] == ModelCalls((ToolCall("call_0", "light", '{"on": true}'), ToolCall("call_1", "fan", "{}")))
    assert server.requests[0]["tools"] == [tool]


async def test_tool_messages_are_sent_as_the_protocol_wants(server: FakeLlm, model: ChatModel) -> None:
    """Calls with null content when nothing was said, and each result under its call's id."""
    call = ToolCall("c1", "light", "{}")
    await pieces_of(model, ModelRequest([Message("assistant", "", (call,)), Message("tool", "ok", call_id="c1")]))
    asked, answer = server.requests[0]["messages"]
    assert asked["content"] is None
    assert asked["tool_calls"][0]["function"] == {"name": "light", "arguments": "{}"}
    assert answer == {"role": "tool", "content": "ok", "tool_call_id": "c1"}


async def test_it_starts_no_thread(server: FakeLlm, model: ChatModel) -> None:
    """Asking an address without a name takes no thread."""
    before = threading.active_count()
    await asyncio.gather(*(pieces_of(model) for _ in range(20)))
    assert threading.active_count() == before


async def test_one_retry_if_nothing_was_said(server: FakeLlm, model: ChatModel) -> None:
    """A failure that may pass is tried once more; one that will not is not, nor one behind the first words."""
    brain = ModelBrain(model, prompt=lambda: "", first_timeout_s=2.0)
    server.scripts.extend([Script(status=500), Script(tokens=("Fine.",))])
    assert text_of([piece async for piece in brain._ask(ASKED)]) == "Fine."
    for scripts, requests in (
        ([Script(status=500)] * 3, TRIES),
        ([Script(status=401)] * 3, 1),
        ([Script(tokens=("Once. ",), fault="cut")] * 3, 1),
    ):
        brain = ModelBrain(model, prompt=lambda: "", first_timeout_s=2.0)
        server.requests.clear()
        server.scripts.clear()
        server.scripts.extend(scripts)
        with pytest.raises(EngineError):
            [piece async for piece in brain._ask(ASKED)]
        assert len(server.requests) == requests


async def test_a_stall_behind_words_fails(server: FakeLlm, model: ChatModel) -> None:
    """A stream that stops in the middle fails within the deadline."""
    server.default = Script(tokens=("One. ",), fault="hang_midstream")
    brain = ModelBrain(model, prompt=lambda: "", first_timeout_s=0.2)
    heard: list[Piece] = []
    with pytest.raises(EngineError) as failure:
        async for piece in brain._ask(ASKED):
            heard.append(piece)
    assert (failure.value.code, text_of(heard)) == ("llm_stalled", "One. ")


async def test_a_failing_model_is_left_alone_for_a_while(server: FakeLlm, model: ChatModel) -> None:
    """After failures in a row the server is not asked, so nobody waits for it."""
    brain = ModelBrain(model, prompt=lambda: "", first_timeout_s=2.0, section="LLM.Failing")
    server.default = Script(status=500)
    codes = []
    for _ in range(4):
        with pytest.raises(EngineError) as failure:
            [piece async for piece in brain._ask(ASKED)]
        codes.append(failure.value.code)
    assert codes[-1] == "llm_resting"
    assert REGISTRY.get_sample_value("xz_upstream_breaker_state", {"upstream": "LLM.Failing"}) == 2
    assert len(server.requests) == 3
