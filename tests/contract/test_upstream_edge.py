"""What is particular to Microsoft Edge's voices; what they share with others is in test_upstream_voices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from edge_tts.drm import DRM

from bench.upstreams.edge import Edge
from bench.upstreams.script import Script
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_voice import asked, failure, mark, remote, said, speaking, until, word
from tests.fakes.voice_services import EDGE

pytestmark = pytest.mark.contract

HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    """The package's clock is one for the process."""
    before = DRM.clock_skew_seconds
    yield
    DRM.clock_skew_seconds = before


async def test_a_segment_is_heard_as_it_was_told() -> None:
    """Voice and changes of the section reach the service; all of the sound comes, and the connection is closed."""
    options = {"voice": "en-US-AvaMultilingualNeural", "rate": 10, "volume": "-5%", "pitch": "+2Hz"}
    async with Edge() as fake, speaking(fake, **options) as engine:
        text = f'{mark(1)} & <break/> "quoted" 早上好'
        sound = await said(engine, text)
        assert EDGE.is_whole(sound, text)
        await until(lambda: not fake.open_connections)
        [session] = fake.sessions
        assert session.texts == [text]
        assert session.was_finished
        assert session.started == {
            "format": "audio-24khz-48kbitrate-mono-mp3",
            "voice": "Microsoft Server Speech Text to Speech Voice (en-US, AvaMultilingualNeural)",
            "rate": "+10%",
            "volume": "-5%",
            "pitch": "+2Hz",
        }
        assert "Edg/" in session.headers["User-Agent"]
        assert session.headers["Origin"].startswith("chrome-extension://")


async def test_every_request_has_a_connection_of_its_own() -> None:
    """The service blocks who uses one twice."""
    async with Edge() as fake, speaking(fake) as engine:
        for number in range(3):
            assert await word(engine, mark(number)) == mark(number)
        assert (fake.connections, len({session.id for session in fake.sessions})) == (3, 3)


async def test_no_more_run_at_once_than_the_section_allows() -> None:
    """The others wait for their turn."""
    async with Edge(Script(latency_ms=20)) as fake, speaking(fake, max_sessions=2) as engine:
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            async for _ in engine.speak(asked(mark(number), owner=str(number))):
                most = max(most, fake.open_connections)

        await asyncio.gather(*(one(number) for number in range(6)))
        assert 1 <= most <= 2
        assert len(fake.sessions) == 6


async def test_what_xml_cannot_hold_is_a_space() -> None:
    """All else is told as it is."""
    async with Edge() as fake, speaking(fake) as engine:
        assert EDGE.is_whole(await said(engine, "tab\x0b\x00 stop"), "tab\x0b\x00 stop")
        assert fake.sessions[0].texts == ["tab   stop"]


@pytest.mark.parametrize(
    ("voice", "name"),
    [
        ("en-US-AriaNeural", "(en-US, AriaNeural)"),
        ("onyx", "(zh-CN, XiaoxiaoNeural)"),
        ("'><break/>", "(zh-CN, XiaoxiaoNeural)"),
    ],
)
async def test_a_devices_voice_overrules_the_sections_if_it_is_one(voice: str, name: str) -> None:
    """A voice of another service is not asked for: any sound beats none."""
    async with Edge() as fake, speaking(fake) as engine:
        assert await said(engine, asked("Hello.", voice=voice))
        assert fake.sessions[0].started["voice"].endswith(name)


async def test_a_wrong_clock_is_set_by_the_services() -> None:
    """Refused with 403 and a date, it comes back once with a token of that time; later ones are right at once."""
    async with Edge(ahead_s=HOUR_S) as fake, speaking(fake) as engine:
        assert await word(engine, mark(1)) == mark(1)
        assert len(fake.tokens) == 2
        assert fake.tokens[0] != fake.tokens[1]
        assert DRM.clock_skew_seconds == pytest.approx(HOUR_S, abs=60)
        assert await word(engine, mark(2)) == mark(2)
        assert len(fake.tokens) == 3
        assert fake.tokens[2] != fake.tokens[0]


async def test_who_is_refused_with_the_right_time_too_gives_up() -> None:
    """Somebody must mend it: no further attempt, and the breaker opens at once."""
    async with Edge() as fake, speaking(fake) as engine:
        fake.forbids = True
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        assert len(fake.tokens) == 2
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.OPEN
        assert len(fake.tokens) == 2


def test_without_an_address_of_its_own_it_asks_microsoft() -> None:
    """Whose host is a name."""
    assert remote({"type": "edge"}).is_named
    assert not remote({"type": "edge", "url": "ws://127.0.0.1:1/"}).is_named
