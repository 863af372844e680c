"""The small parts of the session: routes, things, store, prompt, reasoning, tool calls, endpoints."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.link.messages import Input
from shared.settings import EngineChoice, SessionSettings
from workers.session.dialogue import Dialogue, Message, PastTurn, ToolCall
from workers.session.iot import DeviceThings
from workers.session.language import speech_language, tongue_of
from workers.session.llm.endpoints import endpoint_of
from workers.session.llm.reasoning import ReasoningFilter
from workers.session.llm.tool_calls import ToolCallMerger
from workers.session.prompt import system_prompt
from workers.session.recent import RecentDialogues
from workers.session.records import past_turn, stored_turn, things_of, tool_records
from workers.session.routing import Plan, Route, Routing

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "source", "plan"),
    [
        ("what time is it", "asr", Plan(Route.BRAIN)),
        ("退出。", "asr", Plan(Route.LEAVE, close=True)),
        (" Exit! ", "text", Plan(Route.LEAVE, close=True)),
        ("exit the room", "asr", Plan(Route.BRAIN)),
        ("你好，小智", "text", Plan(Route.GREET)),
        ("", "asr", Plan(Route.NOTHING)),
        ("。", "asr", Plan(Route.NOTHING)),
        ("Say goodbye", "farewell", Plan(Route.PROMPT, close=True)),
        ("", "farewell", Plan(Route.LEAVE, close=True)),
        ("", "greeting", Plan(Route.GREET)),
        ("Say hello", "greeting", Plan(Route.PROMPT)),
    ],
)
def test_routes(text: str, source: Any, plan: Plan) -> None:
    """Commands match the whole text without punctuation and case; prompts go to the model."""
    settings = SessionSettings(wakeup_words=("你好小智",))
    assert Routing(settings, has_model=True).plan(Input(1, text, source)) == plan


def test_routes_without_a_model_or_a_greeting() -> None:
    """Without a model prompts are answered with words of our own; a wake word may be answered with silence."""
    settings = SessionSettings(wakeup_words=("hi",), enable_greeting=False)
    routing = Routing(settings, has_model=False)
    assert routing.plan(Input(1, "hi", "text")) == Plan(Route.NOTHING)
    assert routing.plan(Input(1, "Say goodbye", "farewell")) == Plan(Route.LEAVE, close=True)


def test_things_tell_states_and_take_commands() -> None:
    """The parameter's name is the device's own; what it has not described is not commanded."""
    things = DeviceThings()
    method = {"description": "", "parameters": {"level": {"type": "number"}}}
    things.on_message({"descriptors": [{"name": "Speaker", "methods": {"SetVolume": method}}, 5, {"name": None}]})
    things.on_message({"states": [{"name": "Speaker", "state": {"volume": 80, "on": True}}, {"name": "X"}]})
    assert things.state("Speaker", "volume") == 80
    assert things.state("Speaker", "on") is None
    command = {"name": "Speaker", "method": "SetVolume", "parameters": {"level": 30}}
    assert things.command("Speaker", "SetVolume", 30) == {"type": "iot", "commands": [command]}
    assert things.command("Lamp", "SetVolume", 30) is None


def test_a_recent_dialogue_is_kept_for_its_window() -> None:
    """The device's next connection gets it, once; a later one begins anew."""
    recent = RecentDialogues(window_s=300, most=10)
    dialogue = Dialogue(10)
    recent.keep("d", dialogue, 10.0)
    assert recent.take("d", 309.0) is dialogue
    assert recent.take("d", 309.0) is None
    recent.keep("d", dialogue, 310.0)
    assert recent.take("d", 611.0) is None


def test_recent_dialogues_are_bounded() -> None:
    """The longest gone go first; one that was claimed elsewhere goes at once."""
    recent = RecentDialogues(window_s=300, most=3)
    for n in range(5):
        recent.keep(f"d{n}", Dialogue(10), float(n))
    recent.drop("d3")
    assert [recent.take(f"d{n}", 5.0) is not None for n in range(5)] == [False, False, True, False, True]


def test_a_turn_is_the_same_when_it_comes_back_from_the_store() -> None:
    """Calls and answers included; a repr of it shows nothing that was said."""
    call = ToolCall("c1", "light", '{"on": true}')
    messages = (Message("user", "marmalade"), Message("assistant", "", (call,)), Message("tool", "ok", call_id="c1"))
    turn = PastTurn("s1", 7, messages)
    assert past_turn(stored_turn(turn, 5.0)) == turn
    assert "marmalade" not in repr(turn) + repr(stored_turn(turn, 5.0))


def test_tools_and_things_share_one_record() -> None:
    """Whatever of the two a device has is found again."""
    tool = {"name": "self.lamp"}
    assert things_of(tool_records([tool], {"methods": {}})) == {"methods": {}}
    assert things_of(tool_records([tool], None)) is None
    assert things_of([]) is None


def test_prompt_holds_the_time() -> None:
    """Where the mark stands, else at the end; the template is no pattern."""
    now = datetime(2026, 3, 1, 9, 5)
    assert system_prompt(r"It is {{current_time}} \u4f60", now) == r"It is 2026-03-01 09:05 Sunday \u4f60"
    assert system_prompt("Be kind.", now).startswith("Be kind.\n\n")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think", ">", "ab", "</", "你"]), max_size=12), st.data())
def test_reasoning_is_removed_wherever_it_is_cut(parts: list[str], data: st.DataObject) -> None:
    """The filter gives the same for every chunking as for the whole text."""
    text = "".join(parts)

    def run(chunks: list[str]) -> str:
        machine = ReasoningFilter()
        return "".join(machine.feed(chunk) for chunk in chunks) + machine.finish()

    cut = data.draw(st.integers(0, len(text)))
    whole = run([text])
    assert run(list(text)) == whole == run([text[:cut], text[cut:]])
    assert whole == re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL)


def test_reasoning_example() -> None:
    """Text outside of the tags passes, a tag that never comes is text."""
    machine = ReasoningFilter()
    assert [machine.feed(chunk) for chunk in ("a<th", "ink>no</thi", "nk>b<", "3<")] == ["a", "", "b", "<3"]
    assert machine.finish() == "<"


def test_tool_call_deltas_are_merged_by_index() -> None:
    """Name and id come once, arguments in pieces."""
    merger = ToolCallMerger()
    merger.feed(0, "x", "light", '{"on"')
    merger.feed(1, "y", "fan", "")
    merger.feed(0, None, None, ": true}")
    merger.feed(1, None, None, "{}")
    first, second = merger.calls()
    assert (first.id, first.name, json.loads(first.arguments)) == ("x", "light", {"on": True})
    assert (second.id, second.name, second.arguments) == ("y", "fan", "{}")


def test_tool_calls_of_careless_servers() -> None:
    """Every call at index 0 with its own id, or without any id, is still told apart and named."""
    merger = ToolCallMerger()
    merger.feed(0, "x", "a", "{}")
    merger.feed(0, "y", "b", "{}")
    merger.feed(None, None, None, "")
    assert [call.id for call in merger.calls()] == ["x", "y"]
    nameless = ToolCallMerger()
    nameless.feed(None, None, "c", "{}")
    assert nameless.calls()[0].id == "call_0"


@pytest.mark.parametrize(
    ("kind", "options", "url", "named"),
    [
        ("openai", {"url": "http://10.0.0.1:1234/v1/"}, "http://10.0.0.1:1234/v1", False),
        ("ollama", {"base_url": "http://localhost:11434"}, "http://localhost:11434/v1", True),
        ("xinference", {"base_url": "http://h:9997/v1"}, "http://h:9997/v1", True),
        ("gemini", {}, "https://generativelanguage.googleapis.com/v1beta/openai", True),
    ],
)
def test_types_map_to_openai_compatible_addresses(kind: str, options: Any, url: str, named: bool) -> None:
    """Existing configuration files keep working."""
    endpoint = endpoint_of(EngineChoice(name="X", type=kind, options={"model_name": "m", **options}))
    assert (endpoint.base_url, endpoint.is_named) == (url, named)


@pytest.mark.parametrize(
    ("host", "body"),
    [
        ("dashscope.aliyuncs.com", {"enable_thinking": False}),
        ("api.deepseek.com", {"thinking": {"type": "disabled"}}),
        ("open.bigmodel.cn", {"thinking": {"type": "disabled"}}),
        ("api.moonshot.cn", {"thinking": {"type": "disabled"}}),
        ("ark.cn-beijing.volces.com", {"thinking": {"type": "disabled"}}),
        ("notdeepseek.com", {}),
        ("api.openai.com", {}),
    ],
)
def test_reasoning_is_switched_off_where_there_is_a_switch(host: str, body: Any) -> None:
    """Each provider has its own word for it; others refuse unknown words."""
    choice = EngineChoice(name="X", type="openai", options={"model_name": "m", "url": f"https://{host}/v1"})
    assert endpoint_of(choice).extra_body == body


def test_endpoint_options() -> None:
    """Only configured sampling parameters are sent; a wrong one is named without the key being shown."""
    options = {
        "model_name": "m",
        "url": "http://h/v1",
        "temperature": "0.5",
        "max_tokens": 100,
        "api_key": "hidden-key",
    }
    endpoint = endpoint_of(EngineChoice(name="X", type="openai", options=options))
    assert endpoint.parameters == {"temperature": 0.5, "max_tokens": 100}
    assert "hidden-key" not in repr(endpoint)
    for wrong in ({"top_p": "high"}, {"model_name": ""}, {"url": "ftp://h"}):
        with pytest.raises(ConfigError, match=r"LLM\.X\."):
            endpoint_of(EngineChoice(name="X", type="openai", options={**options, **wrong}))


def test_languages() -> None:
    """The text decides before the tag; a voice is named only where it is sure."""
    assert [tongue_of(text, tag) for text, tag in (("你好", "en"), ("hello", "zh"), ("42", "zh-CN"), ("", None))] == [
        "zh",
        "en",
        "zh",
        "en",
    ]
    assert speech_language("Guten Tag", "de", "en") == "de"
    assert speech_language("OK", "zh", "zh") == "en"
    assert speech_language("Привет", "ru", "en") is None
    assert speech_language("こんにちは世界", None, "en") == "ja"
