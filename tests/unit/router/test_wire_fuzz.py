"""Whatever a device sends, only the typed error comes out; and what is accepted can be passed on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.fuzz.targets import FRAMINGS, TARGETS, request_input, seeds, wire_input
from router import wire
from shared.errors import DeviceProtocolError

pytestmark = pytest.mark.unit

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800")
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TYPES = ("hello", "listen", "abort", "mcp", "iot", "ping", "teleport")
STATES = ("start", "stop", "detect", "pause")
FIELDS = ("version", "features", "audio_params", "mode", "text", "reason", "payload", "session_id", "states")


@st.composite
def said(draw: st.DrawFn) -> dict[str, Any]:
    """A message that is almost right: known words, values of any shape."""
    message: dict[str, Any] = {"type": draw(st.sampled_from(TYPES) | values)}
    message |= draw(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
    if message["type"] == "listen":
        message["state"] = draw(st.sampled_from(STATES) | values)
    if message["type"] == "mcp" and draw(st.booleans()):
        message["payload"] = draw(st.dictionaries(st.text(max_size=8), values, max_size=4))
    return message


@given(st.binary(max_size=6000))
def test_any_bytes(data: bytes) -> None:
    """As audio in each framing, and as text."""
    wire_input(data)


@given(st.sampled_from(FRAMINGS), st.binary(max_size=5000), st.data())
def test_a_frame_with_some_bytes_changed(framing: wire.Framing, packet: bytes, data: st.DataObject) -> None:
    """Headers that lie by a little find more than noise does."""
    framed = bytearray(wire.frame(framing, packet, 7))
    for _ in range(data.draw(st.integers(0, 4))):
        if framed:
            framed[data.draw(st.integers(0, min(len(framed), 20) - 1))] = data.draw(st.integers(0, 255))
    wire_input(bytes(framed[: data.draw(st.integers(0, len(framed)))]))


@given(said(), st.booleans())
def test_a_message_with_values_of_any_shape(message: dict[str, Any], is_ascii: bool) -> None:
    """What is accepted fits into the link's messages."""
    wire_input(json.dumps(message, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"))


@given(said())
def test_parsing_is_the_same_twice(message: dict[str, Any]) -> None:
    """It keeps nothing, and changes nothing of what it was given."""
    text = json.dumps(message)
    assert outcome(text) == outcome(text)


def outcome(text: str) -> str:
    try:
        return repr(wire.parse(text))
    except DeviceProtocolError as error:
        return error.code


@given(st.text(max_size=300), st.lists(st.text(max_size=60), max_size=5))
@example("//x[y/xiaozhi/v1/?device-id=aa:bb", [])  # found by bench.fuzz: urlsplit took it for a broken IPv6 address
def test_any_request(path: str, lines: list[str]) -> None:
    """Ids in the query, headers of any kind: nothing but an identity comes out."""
    request_input("\n".join([path, *lines]).encode("latin-1", "replace"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzers_seeds_are_valid(name: str) -> None:
    """A run begins from what works."""
    assert seeds(name)
    for seed in seeds(name):
        TARGETS[name](seed)
