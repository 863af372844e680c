"""Messages of Microsoft Edge's read-aloud service, against the bytes that a browser exchanges."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, UpstreamError
from workers.tts.engines.edge_protocol import (
    MAX_PART_CHARS,
    Message,
    Prosody,
    config_message,
    is_voice,
    read,
    ssml_message,
)

pytestmark = pytest.mark.unit

STAMP = "Tue Nov 24 2026 10:00:00 GMT+0000 (Coordinated Universal Time)"
ID = "0123456789abcdef0123456789abcdef"
PLAIN = Prosody()
VOICE = "zh-CN-XiaoxiaoNeural"


def ssml_of(text: str, voice: str = VOICE, prosody: Prosody = PLAIN) -> str:
    return ssml_message(ID, STAMP, text, voice, prosody).partition("\r\n\r\n")[2]


def test_the_configuration_is_what_the_browser_sends() -> None:
    """Byte for byte, the line end behind the body included."""
    assert config_message(STAMP) == (
        f"X-Timestamp:{STAMP}\r\n"
        "Content-Type:application/json; charset=utf-8\r\n"
        "Path:speech.config\r\n\r\n"
        '{"context":{"synthesis":{"audio":{"metadataoptions":{"sentenceBoundaryEnabled":"true",'
        '"wordBoundaryEnabled":"false"},"outputFormat":"audio-24khz-48kbitrate-mono-mp3"}}}}\r\n'
    )


def test_the_text_is_what_the_browser_sends() -> None:
    """Byte for byte, the Z behind the stamp included."""
    assert ssml_message(ID, STAMP, "早上好", VOICE, Prosody("+10%", "-5%", "+2Hz")) == (
        f"X-RequestId:{ID}\r\n"
        "Content-Type:application/ssml+xml\r\n"
        f"X-Timestamp:{STAMP}Z\r\n"
        "Path:ssml\r\n\r\n"
        "<speak version='1.0' xmlns='http://www.w3.org/2001/10/synthesis' xml:lang='en-US'>"
        '<voice name="Microsoft Server Speech Text to Speech Voice (zh-CN, XiaoxiaoNeural)">'
        "<prosody pitch='+2Hz' rate='+10%' volume='-5%'>早上好</prosody></voice></speak>"
    )


def test_a_dialect_is_part_of_the_language() -> None:
    """As the service's own list has it."""
    assert "(zh-CN-liaoning, XiaobeiNeural)" in ssml_of("a", "zh-CN-liaoning-XiaobeiNeural")


@given(st.text(max_size=MAX_PART_CHARS))
def test_any_text_is_valid_xml_that_says_the_same(text: str) -> None:
    """What looks like markup is text; what XML cannot hold is a space. A part is no longer than the service takes."""
    xml = ssml_of(text)
    said = "".join(ElementTree.fromstring(xml).itertext())
    assert len(said) == len(text.replace("\r\n", "\n"))
    kept = [(one, other) for one, other in zip(text.replace("\r\n", "\n").replace("\r", "\n"), said, strict=True)]
    assert all(other in (one, " ") for one, other in kept)
    assert len(xml.partition("'>")[2].encode()) < 4096 + 300


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (VOICE, True),
        ("en-US-AvaMultilingualNeural", True),
        ("sr-Latn-RS-NicholasNeural", True),
        ("onyx", False),
        ("zh-CN-Xiaoxiao", False),
        ("zh-CN-X'><break/>Neural", False),
        ("", False),
    ],
)
def test_a_name_is_one_of_its_voices_or_not(name: str, is_one: bool) -> None:
    """A voice of another service, or markup, is never asked for."""
    assert is_voice(name) is is_one


def test_sound_is_behind_its_headers() -> None:
    """The first two bytes are the length of the headers, big endian."""
    head = f"X-RequestId:{ID}\r\nContent-Type:audio/mpeg\r\nX-StreamId:AB\r\nPath:audio\r\n".encode()
    message = read(bytes([0, len(head)]) + head + b"\xff\xf3\x64\xc4:\r\n\r\n")
    assert message == Message("audio", ID, b"\xff\xf3\x64\xc4:\r\n\r\n")
    assert message.is_sound


def test_the_last_sound_is_empty() -> None:
    """It has no content type either."""
    head = f"X-RequestId:{ID}\r\nX-StreamId:AB\r\nPath:audio\r\n".encode()
    assert not read(bytes([0, len(head)]) + head).is_sound


@pytest.mark.parametrize("path", ["turn.start", "response", "audio.metadata", "turn.end"])
def test_text_messages_have_a_path(path: str) -> None:
    """And a request they belong to."""
    text = f'X-RequestId:{ID}\r\nContent-Type:application/json; charset=utf-8\r\nPath:{path}\r\n\r\n{{"a": ":"}}'
    assert read(text) == Message(path, ID, b'{"a": ":"}')


@pytest.mark.parametrize(
    "message",
    ["", "no header\r\n\r\n", "Path:unknown\r\n\r\n", b"", b"\x00", b"\x00\x05ab", b"\xff\xff garbage", b"\x00\x02ab"],
)
def test_what_is_no_message_is_an_error(message: str | bytes) -> None:
    """Of a type that says so, without its content."""
    with pytest.raises(UpstreamError) as caught:
        read(message)
    assert caught.value.code == Code.MALFORMED


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_whatever_comes_is_a_message_or_a_typed_error(message: str | bytes) -> None:
    """Nothing else is raised."""
    try:
        assert read(message).path
    except UpstreamError as error:
        assert error.code == Code.MALFORMED
