"""The scripted model: what load tests and chaos make it do."""

from __future__ import annotations

import pytest

from shared.errors import ConfigError, EngineError
from shared.settings import EngineChoice
from workers.session.dialogue import Message
from workers.session.llm.model import ModelCalls, ModelRequest, ModelText
from workers.session.llm.scripted import ScriptedModel

pytestmark = pytest.mark.unit

TOOL = {"type": "function", "function": {"name": "self_note", "description": "", "parameters": {}}}


def model(**options: object) -> ScriptedModel:
    return ScriptedModel(EngineChoice(name="S", type="scripted", options={"reply": "You said {text}.", **options}))


async def answer(scripted: ScriptedModel, *messages: Message, has_tool: bool = True) -> str | ModelCalls:
    pieces = [piece async for piece in scripted.stream(ModelRequest([*messages], [TOOL] if has_tool else []))]
    if isinstance(pieces[0], ModelCalls):
        return pieces[0]
    return "".join(piece.text for piece in pieces if isinstance(piece, ModelText))


async def test_the_last_question_is_answered() -> None:
    """One that got no answer stands in the line before it."""
    assert await answer(model(), Message("user", "first\nsecond")) == "You said second."


async def test_a_tool_is_called_once_where_the_words_ask_for_it() -> None:
    """With what was said; then its result is answered. Not without the words, and not without such a tool."""
    scripted = model(tool="self_note", tool_if="note [ab]")
    asked = Message("user", "note a")
    calls = await answer(scripted, asked)
    assert isinstance(calls, ModelCalls)
    assert [(call.name, call.arguments) for call in calls.calls] == [("self_note", '{"text": "note a"}')]
    assert await answer(scripted, asked, Message("tool", "noted", call_id="call_0")) == "You said note a."
    assert await answer(scripted, Message("user", "note c")) == "You said note c."
    assert await answer(scripted, asked, has_tool=False) == "You said note a."


async def test_failures_come_every_so_often_and_in_turn() -> None:
    """Each n-th request, each kind after the other."""
    scripted = model(fail=["connect", "midstream"], fail_every=2)
    outcomes = []
    for _ in range(8):
        try:
            await answer(scripted, Message("user", "hello"))
            outcomes.append("")
        except EngineError as error:
            outcomes.append(error.code)
    assert outcomes == ["", "llm_connect", "", "llm_cut"] * 2


def test_an_unknown_failure_is_named() -> None:
    """Also in a list."""
    with pytest.raises(ConfigError, match="fail"):
        model(fail=["connect", "sulk"])
