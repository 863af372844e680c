"""What is particular to Alibaba's streaming synthesis; what it shares with other voices is in test_upstream_voices."""

from __future__ import annotations

import pytest

from bench.upstreams.aliyun_asr import KEY_ID, SECRET, AliyunAsr
from bench.upstreams.aliyun_tts import APPKEY, TOKEN, AliyunTts
from bench.upstreams.voice import spoken
from shared.config.options.aliyun import AliyunTtsOptions
from shared.errors import InvalidConfigError
from shared.settings import EngineChoice
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_voice import begun, failure, mark, remote, said, speaking, until, word
from tests.fakes.voice_services import LONG, faulty

pytestmark = pytest.mark.contract


async def test_a_segment_is_heard_as_it_was_told() -> None:
    """Keys, voice and sound of the section; every sample comes, in the order it was sent."""
    options = {"voice": "longwan", "volume": "70", "speech_rate": -100, "pitch_rate": 30, "format": "pcm"}
    async with AliyunTts() as fake, speaking(fake, **options) as engine:
        assert await said(engine, "Hello there.") == spoken("Hello there.", 24_000)
        [session] = fake.sessions
        assert session.headers["x-nls-token"] == TOKEN
        assert session.started == {
            "voice": "longwan",
            "format": "pcm",
            "sample_rate": 24_000,
            "volume": 70,
            "speech_rate": -100,
            "pitch_rate": 30,
        }
        assert session.texts == ["Hello there."]
        assert session.was_finished


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 48_000])
async def test_the_rate_is_the_sections(rate_hz: int) -> None:
    """Asked for and told to the worker."""
    async with AliyunTts() as fake, speaking(fake, sample_rate=str(rate_hz)) as engine:
        assert engine.sample_rate == rate_hz
        assert await said(engine, "Hello.") == spoken("Hello.", rate_hz)


async def test_text_waits_for_the_start_as_documented() -> None:
    """A service that refuses text before SynthesisStarted speaks."""
    async with AliyunTts(started_ms=30, is_strict=True) as fake, speaking(fake) as engine:
        assert await word(engine, mark(1)) == mark(1)


async def test_text_may_follow_the_start_at_once() -> None:
    """By option; a service that does not take it so says it, and that is an error like any other."""
    async with AliyunTts(started_ms=30) as fake, speaking(fake, pipelined=True) as engine:
        assert await word(engine, mark(1)) == mark(1)
    async with AliyunTts(started_ms=30, is_strict=True) as fake, speaking(fake, pipelined=True) as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.reason) == (Code.REFUSED, "40000002")


# Refusals


async def test_a_token_that_the_service_took_back_is_fetched_anew() -> None:
    """Whether the upgrade or the start is refused, nobody notices, and the old connections are not asked again."""
    async with AliyunAsr() as issuer, AliyunTts() as fake:
        keys = {"token": "", "access_key_id": KEY_ID, "access_key_secret": SECRET, "token_url": issuer.token_url}
        fake.tokens = issuer.tokens
        async with speaking(fake, **keys) as engine:
            assert await word(engine, mark(1)) == mark(1)
            issuer.tokens.clear()
            assert await word(engine, mark(2)) == mark(2)
            assert await word(engine, mark(3)) == mark(3)
            assert issuer.token_requests == 2
            assert fake.connections == 2
    tokens = [session.headers["x-nls-token"] for session in fake.sessions]
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3]


async def test_a_wrong_appkey_is_somebodys_to_mend() -> None:
    """There is no use in asking again."""
    async with AliyunTts() as fake, speaking(fake, appkey="wrong") as engine:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        assert len(fake.sessions) == 1


# Aborts


async def test_an_aborted_tasks_connection_is_never_used_again() -> None:
    """Its sound, which goes on and names no task, is not heard by the next."""
    async with AliyunTts(faulty("late_audio@stream", drip_ms=5)) as fake, speaking(fake) as engine:
        for number in range(3):
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
            assert await said(engine, mark(number)) == spoken(mark(number), 24_000)
        await until(lambda: [session.was_closed for session in fake.sessions] == [True, False] * 3)
        # The connection of a task that came to its end serves the next, the aborted ones' do not.
        assert fake.connections == 4


# Configuration


def test_a_missing_key_is_named() -> None:
    """At the start, with what was expected; an example that was not filled in counts as missing."""
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "aliyun_stream", "appkey": "你的阿里云项目Appkey", "token": "x"})
    assert [error.key for error in caught.value.errors] == ["TTS.Voice.appkey"]
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "aliyun_stream", "appkey": APPKEY, "access_key_id": "alone"})
    assert [error.key for error in caught.value.errors] == ["TTS.Voice.access_key_id"]


def test_wrong_numbers_are_named() -> None:
    """All of them at once."""
    options = {"appkey": APPKEY, "token": "hush", "volume": 101, "speech_rate": "fast", "sample_rate": 11_025}
    with pytest.raises(InvalidConfigError) as caught:
        remote({"type": "aliyun_stream", **options})
    keys = [error.key.rpartition(".")[2] for error in caught.value.errors]
    assert sorted(keys) == ["sample_rate", "speech_rate", "volume"]
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "wss://nls-gateway-cn-beijing.aliyuncs.com/ws/v1"),
        ("nls-gateway-cn-shanghai.aliyuncs.com", "wss://nls-gateway-cn-shanghai.aliyuncs.com/ws/v1"),
        ("nls-gateway-cn-beijing-internal.aliyuncs.com", "ws://nls-gateway-cn-beijing-internal.aliyuncs.com:80/ws/v1"),
    ],
)
def test_the_gateway_is_the_hosts(host: str, url: str) -> None:
    """Without a host it is Beijing, where the voices are."""
    choice = EngineChoice(name="V", type="aliyun_stream", options={"appkey": "a", "token": "b", "host": host})
    assert AliyunTtsOptions.of(choice).url == url
