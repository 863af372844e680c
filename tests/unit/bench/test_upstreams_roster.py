"""Which fakes an operator may start, and what they are told to write into their configuration."""

from __future__ import annotations

import pytest

from bench.upstreams.fake import Fake
from bench.upstreams.roster import NAMES, ROSTER, faults_of, made, merged
from bench.upstreams.script import Fault, Kind, Script, Stage

pytestmark = pytest.mark.unit


def test_every_cloud_service_has_its_fake() -> None:
    """By name, each once."""
    assert set(NAMES) == {"aliyun_asr", "doubao", "fun_asr", "aliyun_tts", "huoshan", "edge", "openai", "voiceprint"}
    assert len(ROSTER) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_fake_is_made_with_its_script(name: str) -> None:
    """On the port that is asked for, not running yet."""
    script = Script(latency_ms=5)
    fake = made(name, script, 4711)
    assert isinstance(fake, Fake)
    assert (fake.script, fake.port, fake.sessions) == (script, 4711, [])


def test_sections_of_one_kind_stand_together() -> None:
    """As in a configuration file."""
    assert merged([{"ASR": {"a": 1}}, {"TTS": {"b": 2}}, {"ASR": {"c": 3}}]) == {
        "ASR": {"a": 1, "c": 3},
        "TTS": {"b": 2},
    }


def test_a_fault_is_somebodys() -> None:
    """NAME:KIND@STAGE*TIMES."""
    assert faults_of(["huoshan:error@start*2", "edge:close"]) == {
        "huoshan": Fault(Kind.ERROR, Stage.START, 2),
        "edge": Fault(Kind.CLOSE, Stage.STREAM),
    }


@pytest.mark.parametrize(
    "text", ["error@start", "nobody:error@start", "edge:nothing@start", "edge:error@never", "edge:"]
)
def test_a_wrong_fault_is_named(text: str) -> None:
    """With what was given."""
    with pytest.raises(ValueError, match=text.partition("*")[0]):
        faults_of([text])
