"""Whatever arrives on a link, only the typed error comes out; and what is decoded means the same when it is sent on."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fuzz.targets import BODIES, envelope_input, seeds
from shared.errors import WorkerProtocolError
from shared.link.envelope import unpack_head, unpack_map
from shared.link.messages import Body, ToDevice

pytestmark = pytest.mark.unit

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=16))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SEEDS = seeds("envelope")


@given(st.binary(max_size=4000))
def test_any_bytes(data: bytes) -> None:
    """As head and body."""
    envelope_input(data)


@given(values)
def test_a_head_of_any_shape(value: Any) -> None:
    """Three non-negative integers or the error."""
    try:
        head = unpack_head(msgpack.packb(value))
    except WorkerProtocolError as error:
        assert error.code == "bad_head"
        return
    assert all(type(each) is int and each >= 0 for each in head)


@given(st.sampled_from(BODIES), st.dictionaries(st.text(max_size=12), values, max_size=6), st.data())
def test_a_body_with_values_of_any_shape(kind: type[Body], body: dict[str, Any], data: st.DataObject) -> None:
    """Also one that has the right keys."""
    names = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in names:
        if data.draw(st.booleans()):
            body[name] = data.draw(values)
    raw = msgpack.packb(body)
    try:
        decoded = kind.unpack(raw)
    except WorkerProtocolError as error:
        assert error.code == "bad_body"
        return
    assert repr(kind.from_map(decoded.to_map())) == repr(decoded)


@given(st.sampled_from(SEEDS), st.data())
def test_a_valid_message_with_some_bytes_changed(seed: bytes, data: st.DataObject) -> None:
    """Bits that flip, and messages that are cut short."""
    changed = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    envelope_input(bytes(changed[: data.draw(st.integers(0, len(changed)))]))


@pytest.mark.parametrize("depth", [10, 500, 100_000])
def test_depth_is_no_way_out(depth: int) -> None:
    """A body that nests without end is refused, or read, but ends no process."""
    for opening in (b"\x91", b"\x81\xa1a"):
        raw = b"\x81\xa1a" + opening * depth + b"\x01"
        try:
            unpack_map(raw)
        except WorkerProtocolError as error:
            assert error.code == "bad_body"


@pytest.mark.parametrize(
    "raw", [b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xdd\xff\xff\xff\xff", b"\x81\xa1a\xc6\xff\xff\xff\xff"]
)
def test_a_length_that_lies_costs_no_memory(raw: bytes) -> None:
    """Four billion entries are announced in a few bytes."""
    with pytest.raises(WorkerProtocolError):
        unpack_map(raw)


@pytest.mark.parametrize("value", [b"bytes", msgpack.ExtType(5, b"x"), [{"deep": b"bytes"}]])
def test_what_a_worker_sends_for_a_device_is_json(value: Any) -> None:
    """Anything else would fail where it is written to the device, and end what the router was doing."""
    raw = msgpack.packb({"name": "to_device", "message": {"type": "mcp", "payload": value}})
    with pytest.raises(WorkerProtocolError):
        ToDevice.unpack(raw)


def test_a_timestamp_is_a_number() -> None:
    """MessagePack has a type for it that JSON has not."""
    raw = msgpack.packb({"message": {"at": msgpack.Timestamp(1_790_000_000)}})
    assert ToDevice.unpack(raw).message == {"at": 1_790_000_000.0}
