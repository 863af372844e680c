"""The list of known voices, and the address of the server that tells them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings import VoiceprintSettings
from shared.voiceprint import Speaker, address_of, speaker_of, speakers_info, speakers_of

pytestmark = pytest.mark.unit

URL = "http://10.0.0.7:8005/voiceprint/health?key=abc"


@pytest.mark.parametrize(
    ("entry", "speaker"),
    [
        ("test1,张三,张三是一个程序员", Speaker("test1", "张三", "张三是一个程序员")),
        (" a , B , likes tea, coffee, and milk ", Speaker("a", "B", "likes tea, coffee, and milk")),
        ("a,B", Speaker("a", "B")),
        ("a", None),
        (",B,c", None),
        ("a,,c", None),
        ("", None),
    ],
)
def test_an_entry_is_id_name_and_description(entry: str, speaker: Speaker | None) -> None:
    """The description may hold commas or be missing; an id and a name there must be."""
    assert speaker_of(entry) == speaker


@pytest.mark.parametrize(
    ("url", "base"),
    [
        (URL, "http://10.0.0.7:8005"),
        ("https://voice.example/any/path?x=1&key=abc", "https://voice.example"),
        ("http://[::1]:8005/voiceprint/health?key=abc", "http://[::1]:8005"),
        ("http://10.0.0.7:8005/voiceprint/health", None),
        ("http://10.0.0.7:8005/voiceprint/health?key=", None),
        ("ftp://host/?key=abc", None),
        ("http:///?key=abc", None),
        ("http://[oops/?key=abc", None),
        ("", None),
    ],
)
def test_only_host_and_key_of_the_url_count(url: str, base: str | None) -> None:
    """Its path is that of the health page, whatever is asked."""
    address = address_of(url)
    assert (address and (address.base, address.key)) == (base and (base, "abc"))


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    """A mistyped URL switches it off; it does not raise."""
    address_of(text)
    speaker_of(text)


def test_the_key_is_in_no_repr() -> None:
    """Whoever prints the settings or the address prints no key."""
    settings = VoiceprintSettings(url=URL, speakers=("a,Zhang San,c",))
    assert "abc" not in repr(settings) + repr(address_of(URL)) and "Zhang" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "speakers", "count"),
    [(URL, ("a,A,x", "b,B,y"), 2), (URL, (), 0), ("", ("a,A,x",), 0), ("http://host/", ("a,A,x",), 0)],
)
def test_nobody_is_told_apart_without_url_key_and_speakers(url: str, speakers: tuple[str, ...], count: int) -> None:
    """All three are needed."""
    assert len(VoiceprintSettings(url=url, speakers=speakers).known) == count


def test_an_id_counts_once_and_each_speaker_is_told_once() -> None:
    """Two entries of one voice are one person, the first."""
    speakers = speakers_of(["a,A,x", "a,Other,z", "b,B,y"])
    assert speakers_info(speakers) == "<speakers_info>\n- A: x\n- B: y\n</speakers_info>"
