"""Reading a streamed chat completion line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EngineError
from workers.session.dialogue import ToolCall
from workers.session.llm.chunks import ChunkReader
from workers.session.llm.model import ModelCalls, ModelText

pytestmark = pytest.mark.unit


def line(**delta: Any) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]})


def test_content_then_done() -> None:
    """Chunks give their text, [DONE] ends, comments and blank lines say nothing."""
    reader = ChunkReader()
    lines = [
        ": ping",
        "",
        line(role="assistant"),
        line(content="Hi"),
        "event: x",
        'data:{"choices":[]}',
        "data: [DONE]",
    ]
    texts = [reader.feed(text) for text in lines]
    assert texts == [None, None, ModelText(""), ModelText("Hi"), None, None, None]
    assert reader.is_done
    assert reader.finish() == []


def test_an_end_may_be_a_finish_reason() -> None:
    """Some servers never send [DONE]; without any end the answer was cut."""
    reader = ChunkReader()
    reader.feed('data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}')
    assert reader.finish() == []
    cut = ChunkReader()
    cut.feed(line(content="Hi"))
    with pytest.raises(EngineError) as failure:
        cut.finish()
    assert failure.value.code == "llm_cut"


def test_calls_come_at_the_end() -> None:
    """With calls an answer needs no other end."""
    reader = ChunkReader()
    reader.feed(line(tool_calls=[{"index": 0, "id": "c", "function": {"name": "a", "arguments": "{"}}]))
    reader.feed(line(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]))
    assert reader.finish() == [ModelCalls((ToolCall("c", "a", "{}"),))]


@pytest.mark.parametrize("text", ["data: {", "data: 5", "data: []", 'data: {"choices": 7}', 'data: {"choices": [3]}'])
def test_malformed_lines_have_a_code(text: str) -> None:
    """Whatever is no chunk fails as one kind of error."""
    with pytest.raises(EngineError) as failure:
        ChunkReader().feed(text)
    assert failure.value.code == "llm_malformed"


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "delta", "content", "tool_calls", "function", "index"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_only_engine_errors_come_out(value: Any) -> None:
    """No server can raise anything else in the reader."""
    reader = ChunkReader()
    try:
        reader.feed("data: " + json.dumps(value))
        reader.finish()
    except EngineError as error:
        assert error.code in ("llm_malformed", "llm_cut", "llm_upstream")
