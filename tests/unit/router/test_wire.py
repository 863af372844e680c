"""The device wire: framing, messages, and what malformed input raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import wire
from router.wire import Framing
from shared.errors import DeviceProtocolError

pytestmark = pytest.mark.unit

PACKETS = st.binary(min_size=1, max_size=wire.MAX_PACKET_BYTES)


@given(framing=st.sampled_from(Framing), packet=PACKETS, sequence=st.integers(1, 2**34))
def test_framing_is_symmetric(framing: Framing, packet: bytes, sequence: int) -> None:
    """What one end wraps, the other end unwraps, in every protocol version."""
    assert wire.unframe(framing, wire.frame(framing, packet, sequence)) == packet


def test_gateway_header_matches_todays_bytes() -> None:
    """80-byte packet, sequence 7: the header that today's server writes, but for its wall-clock timestamp."""
    header = wire.frame(Framing.GATEWAY, bytes(80), 7)[:16].hex()
    assert (header[:8], header[8:16], header[24:]) == ("01000050", "00000007", "00000050")


def test_downlink_timestamps_change_with_every_packet() -> None:
    """Equal timestamps of two packets would make the gateway's AES-CTR reuse a key stream."""
    for framing in (Framing.V2, Framing.GATEWAY):
        stamps = {wire.frame(framing, b"x", sequence)[8:12] for sequence in range(1, 500)}
        assert len(stamps) == 499 and bytes(4) not in stamps


@pytest.mark.parametrize(
    ("framing", "message", "code"),
    [
        (Framing.V2, b"\x00\x02\x00\x00", "header_short"),
        (Framing.V3, b"\x00\x00\x00", "header_short"),
        (Framing.GATEWAY, bytes(15), "header_short"),
        (Framing.V2, bytes.fromhex("00020000000000000000000000000064") + b"short", "header_length"),
        (Framing.V3, bytes.fromhex("00000064") + b"short", "header_length"),
        (Framing.V2, bytes.fromhex("00020001000000000000000000000002") + b"{}", "not_audio"),
        (Framing.V3, bytes.fromhex("01000002") + b"{}", "not_audio"),
        (Framing.V1, bytes(4001), "packet_too_large"),
    ],
)
def test_lying_headers_are_refused(framing: Framing, message: bytes, code: str) -> None:
    """A header that lies about its length, or a packet over 4,000 bytes, is an error with its own code."""
    with pytest.raises(DeviceProtocolError) as caught:
        wire.unframe(framing, message)
    assert caught.value.code == code


def test_a_rest_behind_the_payload_is_ignored() -> None:
    """A payload_size smaller than what follows is tolerated, as the firmware does."""
    assert wire.unframe(Framing.V3, bytes.fromhex("00000002") + b"abcd") == b"ab"


def test_empty_binary_is_legal() -> None:
    """The browser page ends a recording with an empty binary message."""
    assert wire.unframe(Framing.V1, b"") == b""


@pytest.mark.parametrize(
    ("toc", "ms"),
    [(0x00, 10), (0x08, 20), (0x10, 40), (0x18, 60), (0x60, 10), (0x68, 20), (0x80, 2.5), (0x98, 20), (0x19, 120)],
)
def test_opus_duration_comes_from_the_first_byte(toc: int, ms: float) -> None:
    """RFC 6716 §3.1; one-byte DTX packets have a duration too."""
    assert wire.opus_ms(bytes([toc])) == ms


def test_opus_duration_of_code_three_counts_frames() -> None:
    """Code 3 packets say in their second byte how many frames they hold."""
    assert wire.opus_ms(bytes([0x0B, 0x03])) == 60
    assert wire.opus_ms(b"") == 0


def test_hello_defaults_fill_what_is_missing() -> None:
    """The browser page sends no version, transport or audio_params."""
    assert wire.parse('{"type":"hello"}') == wire.Hello()
    assert wire.Hello() == wire.Hello(None, {}, "opus", 16000, 60)


def test_hello_with_nonsense_parameters_is_read_as_the_defaults() -> None:
    """Wrong types in audio_params never refuse a device."""
    hello = wire.parse(
        '{"type":"hello","version":"3","features":[],"audio_params":{"sample_rate":"x","frame_duration":1e9}}'
    )
    assert hello == wire.Hello()


def test_hello_parameters_of_py_xiaozhi_are_honoured() -> None:
    """20 ms frames, and pcm if it says so."""
    hello = wire.parse(
        '{"type":"hello","version":1,"features":{"mcp":true},'
        '"audio_params":{"format":"pcm","sample_rate":24000,"channels":1,"frame_duration":20}}'
    )
    assert hello == wire.Hello(1, {"mcp": True}, "pcm", 24000, 20)


def test_the_reply_announces_what_is_sent_and_never_echoes() -> None:
    """transport is a string (the firmware crashes without it), rate and duration are the server's own."""
    reply = wire.hello_reply("abc")
    assert reply == {
        "type": "hello",
        "version": 1,
        "transport": "websocket",
        "audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
        "session_id": "abc",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"listen","state":"start","mode":"auto"}', wire.ListenStart("auto")),
        ('{"session_id":"","type":"listen","state":"start","mode":"realtime"}', wire.ListenStart("realtime")),
        ('{"type":"listen","state":"start"}', wire.ListenStart(None)),
        ('{"type":"listen","state":"start","mode":"other"}', wire.ListenStart(None)),
        ('{"type":"listen","state":"stop"}', wire.ListenStop()),
        ('{"type":"listen","state":"detect","text":"你好小智"}', wire.Detect("你好小智")),
        ('{"type":"listen","state":"detect"}', wire.Detect("")),
        ('{"type":"abort"}', wire.AbortReply("abort")),
        ('{"type":"abort","reason":"wake_word_detected"}', wire.AbortReply("wake_word")),
        ('{"type":"ping"}', wire.PingText()),
        ("hello there", wire.Echo("hello there")),
        ("123", wire.Echo("123")),
    ],
)
def test_messages_are_parsed(text: str, message: wire.Message) -> None:
    """Every message type of the firmware and the other clients; session_id is never looked at."""
    assert wire.parse(text) == message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[1]", "not_object"),
        ("1.5", "not_object"),
        ('"x"', "not_object"),
        ("true", "not_object"),
        ("{}", "no_type"),
        ('{"type":7}', "no_type"),
        ('{"type":"goodbye"}', "unknown_type"),
        ('{"type":"server","action":"restart"}', "unknown_type"),
        ('{"type":"listen"}', "no_state"),
        ('{"type":"listen","state":"sing"}', "unknown_state"),
        ('{"type":"listen","state":"detect","text":5}', "bad_field"),
        ('{"type":"mcp"}', "bad_field"),
        ('{"type":"mcp","payload":"x"}', "bad_field"),
    ],
)
def test_malformed_messages_have_codes(text: str, code: str) -> None:
    """Valid JSON of the wrong shape is refused with a reason for the counter."""
    with pytest.raises(DeviceProtocolError) as caught:
        wire.parse(text)
    assert caught.value.code == code


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    """A message of 60,000 brackets must not take the process with it."""
    with pytest.raises(DeviceProtocolError) as caught:
        wire.parse('{"type":' + "[" * 60_000)
    assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ('{"a":' * 33 + "1" + "}" * 33, "too_deep"),
        ('{"id":1' + "0" * 30 + "}", "cannot_travel"),
        ('{"text":"\\ud800"}', "cannot_travel"),
        ("{" + '"a":[' + "1.5," * 12_000 + "1]}", "cannot_travel"),
    ],
)
def test_what_a_link_cannot_carry_is_refused_here(payload: str, code: str) -> None:
    """Nesting, numbers beyond 64 bits, half a character, numbers that grow past 64 KiB in msgpack."""
    with pytest.raises(DeviceProtocolError) as caught:
        wire.parse(f'{{"type":"mcp","payload":{payload}}}')
    assert caught.value.code == code


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever a device sends, parsing gives a message or a DeviceProtocolError."""
    try:
        wire.parse(text)
    except DeviceProtocolError as error:
        assert error.code


def test_outgoing_tts_messages_have_string_state() -> None:
    """Firmware before 2.4.0 crashes on a tts message without a string state."""
    for message in (wire.tts("start"), wire.tts("stop"), wire.sentence_start("x")):
        assert isinstance(message["type"], str) and isinstance(message["state"], str)


def test_transcript_is_shown_without_edge_punctuation() -> None:
    """Only the characters of today's set are stripped: a question mark stays."""
    assert wire.displayed_transcript("，今天天气怎么样？") == "今天天气怎么样？"
    assert wire.displayed_transcript(' "hello there." ') == "hello there"
