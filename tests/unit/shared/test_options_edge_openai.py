"""Keys of the sections of type edge and openai: those of today's files, and ours beside them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.config.options.edge import EdgeTtsOptions
from shared.config.options.openai import OpenAiTtsOptions
from shared.config.options.table import OPTIONS
from shared.errors import InvalidConfigError
from shared.settings import EngineChoice

pytestmark = pytest.mark.unit

KEY = {"api_key": "sk-canary"}


def edge(**options: Any) -> EdgeTtsOptions:
    return EdgeTtsOptions.of(EngineChoice(name="EdgeTTS", type="edge", options=options))


def openai(**options: Any) -> OpenAiTtsOptions:
    return OpenAiTtsOptions.of(EngineChoice(name="OpenAITTS", type="openai", options=options))


def test_both_are_in_the_table() -> None:
    """Otherwise nobody checks them at start."""
    assert OPTIONS["TTS", "edge"] is EdgeTtsOptions
    assert OPTIONS["TTS", "openai"] is OpenAiTtsOptions


def test_todays_edge_section_works_as_it_is() -> None:
    """Keys that mean nothing here are left alone."""
    options = edge(voice="zh-CN-YunxiNeural", output_dir="tmp/")
    assert (options.voice, options.rate, options.volume, options.pitch) == ("zh-CN-YunxiNeural", "+0%", "+0%", "+0Hz")


@pytest.mark.parametrize(
    ("given", "rate"), [("+10%", "+10%"), ("-10", "-10%"), (10, "+10%"), (0, "+0%"), ("5 %", "+5%"), ("", "+0%")]
)
def test_a_change_may_be_a_number(given: object, rate: str) -> None:
    """With its sign and unit or without."""
    assert edge(rate=given).rate == rate
    assert edge(volume=given).volume == rate


def test_a_pitch_is_in_hertz() -> None:
    """The unit may be left out."""
    assert edge(pitch="-5").pitch == edge(pitch="-5Hz").pitch == "-5Hz"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rate", "fast"),
        ("rate", True),
        ("rate", "+1000%"),
        ("volume", "'><break/>"),
        ("pitch", "+5%"),
        ("voice", "onyx"),
        ("voice", "zh-CN-'Neural"),
        ("url", "http://example.com"),
        ("first_timeout_s", 0),
    ],
)
def test_a_wrong_value_of_edge_is_named(key: str, value: object) -> None:
    """With its key and what was expected."""
    with pytest.raises(InvalidConfigError) as caught:
        edge(**{key: value})
    assert f"TTS.EdgeTTS.{key}" in str(caught.value)


def test_todays_openai_section_works_as_it_is() -> None:
    """The full address, numbers as text, an empty speed."""
    options = openai(
        api_url="https://example.com/v1/audio/speech", model="tts-1", voice="onyx", speed="1", output_dir="tmp/", **KEY
    )
    assert (options.url, options.voice, options.speed, options.format) == (
        "https://example.com/v1/audio/speech",
        "onyx",
        1.0,
        None,
    )
    assert openai(speed="", **KEY).speed == 1.0


def test_the_address_is_openais_a_base_or_a_whole_one() -> None:
    """The whole one wins."""
    assert openai(**KEY).url == "https://api.openai.com/v1/audio/speech"
    assert openai(base_url="http://host:8880/v1/", **KEY).url == "http://host:8880/v1/audio/speech"
    assert openai(base_url="http://a/v1", api_url="http://b/speech", **KEY).url == "http://b/speech"


def test_either_name_of_the_format_is_taken() -> None:
    """Today's files say `format`, the API says response_format."""
    assert openai(format="mp3", **KEY).format == openai(response_format="mp3", **KEY).format == "mp3"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8880/v1", "http://kokoro:8880/v1", "http://10.0.0.5/v1"])
def test_a_server_of_the_local_network_needs_no_key(url: str) -> None:
    """As with language models."""
    assert openai(base_url=url).api_key == ""


@pytest.mark.parametrize("options", [{}, {"api_key": "你的openai api key"}, {"api_key": ""}])
def test_everybody_else_does(options: dict[str, Any]) -> None:
    """An example that was never filled in is none."""
    with pytest.raises(InvalidConfigError) as caught:
        openai(**options)
    assert "TTS.OpenAITTS.api_key" in str(caught.value)
    assert "API key" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("speed", 5), ("format", "webm"), ("api_url", "ftp://x"), ("sample_rate", 1)]
)
def test_a_wrong_value_of_openai_is_named(key: str, value: object) -> None:
    """And the key of the account is not shown."""
    with pytest.raises(InvalidConfigError) as caught:
        openai(**{key: value, **KEY})
    assert f"TTS.OpenAITTS.{key}" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_key_is_in_no_repr() -> None:
    """Options end up in tracebacks."""
    assert "canary" not in repr(openai(**KEY))
