"""The client of Microsoft Edge's voices against a server that speaks its bytes and all its faults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from edge_tts.drm import DRM

from bench.upstreams.edge import NOBODY, Edge
from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import spoken
from shared.upstream.faults import Code, Kind
from shared.upstream.tls import trust
from tests.fakes.remote_voice import asked, begun, failure, impatient, mark, remote, said, speaking, until, word

pytestmark = pytest.mark.contract

RATE_HZ = 24_000
LONG = "Once upon a time there was a very small robot. " * 15
HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    """The package's clock is one for the process."""
    before = DRM.clock_skew_seconds
    yield
    DRM.clock_skew_seconds = before


def faulty(fault: str, **more: int) -> Script:
    return Script(fault=Fault.parse(fault), **more)


def is_whole(sound: bytes, text: str, parts: int = 1) -> bool:
    """As long as the text is spoken, but for the frames that MP3 adds to each part."""
    return 0 <= len(sound) - len(spoken(text, RATE_HZ)) <= parts * 0.2 * 2 * RATE_HZ


async def test_a_segment_is_heard_as_it_was_told() -> None:
    """Voice and changes of the section reach the service; all of the sound comes, and the connection is closed."""
    options = {"voice": "en-US-AvaMultilingualNeural", "rate": 10, "volume": "-5%", "pitch": "+2Hz"}
    async with Edge() as fake, speaking(fake, **options) as engine:
        text = f'{mark(1)} & <break/> "quoted" 早上好'
        sound = await said(engine, text)
        assert is_whole(sound, text)
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


async def test_the_first_sound_comes_before_the_last_was_made() -> None:
    """It is decoded as it comes."""
    async with Edge(Script(drip_ms=20)) as fake, speaking(fake) as engine:
        pieces, sound = await begun(engine, LONG)
        assert 0 < len(sound) < len(spoken(LONG, RATE_HZ)) / 10
        assert not fake.sessions[0].was_finished
        await pieces.aclose()


async def test_every_request_has_a_connection_of_its_own() -> None:
    """The service blocks who uses one twice."""
    async with Edge() as fake, speaking(fake) as engine:
        for number in range(3):
            assert await word(engine, mark(number)) == mark(number)
        assert (fake.connections, len({session.id for session in fake.sessions})) == (3, 3)


async def test_many_at_once_each_hear_their_own() -> None:
    """Nothing is shared but the section."""
    async with Edge() as fake, speaking(fake) as engine:
        heard = await asyncio.gather(*(word(engine, mark(number)) for number in range(20)))
        assert heard == [mark(number) for number in range(20)]
        assert fake.connections == 20


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


@pytest.mark.parametrize("text", ["a", "好", "今天是 Monday，明天是 Tuesday。", "tab\x0b\x00 stop"])
async def test_short_mixed_and_strange_texts_are_spoken(text: str) -> None:
    """What XML cannot hold is a space."""
    async with Edge() as fake, speaking(fake) as engine:
        assert is_whole(await said(engine, text), text)
        assert fake.sessions[0].texts == [re.sub(r"[\x00\x0b]", " ", text)]


async def test_five_thousand_characters_are_asked_for_in_parts() -> None:
    """None longer than the service takes, each on a connection of its own, and nothing is lost."""
    text = ("今天天气很好，我们去公园走走吧。" * 320)[:5000]
    async with Edge() as fake, speaking(fake) as engine:
        sound = await said(engine, text)
        assert is_whole(sound, text, parts=len(fake.sessions))
        assert "".join(session.texts[0] for session in fake.sessions) == text
        assert max(len(session.texts[0].encode()) for session in fake.sessions) < 4096


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


# Faults

BEFORE_ANY_SOUND = [
    ("silent@connect", Code.CONNECT_TIMEOUT, Kind.RETRYABLE),
    ("error@connect", Code.FAILED, Kind.RETRYABLE),
    ("quota@connect", Code.QUOTA, Kind.QUOTA),
    ("close@connect", Code.CONNECT, Kind.RETRYABLE),
    ("garbage@connect", Code.CONNECT, Kind.RETRYABLE),
    ("silent@start", Code.FIRST_TIMEOUT, Kind.RETRYABLE),
    ("error@start", Code.CLOSED, Kind.RETRYABLE),
    ("quota@start", Code.QUOTA, Kind.QUOTA),
    ("close@start", Code.CLOSED, Kind.RETRYABLE),
    ("garbage@start", Code.MALFORMED, Kind.RETRYABLE),
    ("no_result@finish", Code.NO_RESULT, Kind.INPUT),
]
LATER = [
    (f"{kind}@{stage}", code)
    for kind, code in (
        ("silent", Code.IDLE_TIMEOUT),
        ("error", Code.CLOSED),
        ("quota", Code.QUOTA),
        ("close", Code.CLOSED),
        ("garbage", Code.MALFORMED),
    )
    for stage in ("stream", "finish")
]


@pytest.mark.parametrize(("fault", "code", "kind"), BEFORE_ANY_SOUND)
async def test_a_fault_before_the_first_sound_is_a_typed_error(fault: str, code: str, kind: Kind) -> None:
    """Within the deadline, after one more attempt if that may help."""
    async with Edge(faulty(fault)) as fake, speaking(fake, **impatient(fault, 0.4)) as engine:
        error, sound = await failure(engine, "Hello.")
        assert (error.code, error.kind, sound) == (code, kind, b"")
        assert fake.connections == (2 if kind is Kind.RETRYABLE else 1)


@pytest.mark.parametrize("fault", [fault for fault, _, kind in BEFORE_ANY_SOUND if kind is Kind.RETRYABLE])
async def test_a_passing_fault_is_not_noticed(fault: str) -> None:
    """The one retry is heard, whole and once."""
    async with Edge(faulty(f"{fault}*1")) as fake, speaking(fake, **impatient(fault, 2)) as engine:
        assert is_whole(await said(engine, mark(7)), mark(7))


@pytest.mark.parametrize(("fault", "code"), LATER)
async def test_a_fault_after_the_first_sound_ends_the_segment(fault: str, code: str) -> None:
    """What came is heard and nothing twice: there is no second attempt."""
    async with Edge(faulty(f"{fault}*1")) as fake, speaking(fake, **impatient(fault, 1)) as engine:
        error, sound = await failure(engine, mark(1))
        assert error.code == code
        assert 0 < len(sound) <= len(spoken(mark(1), RATE_HZ)) + 0.2 * 2 * RATE_HZ
        assert len(fake.sessions) == 1
        assert await word(engine, mark(2)) == mark(2)


@pytest.mark.parametrize(
    "fault", ["wrong_session@start", "wrong_session@stream", "wrong_session@finish", "late_audio@finish"]
)
async def test_what_belongs_to_another_request_is_not_heard(fault: str) -> None:
    """Neither its sound nor its end, nor sound behind the end."""
    async with Edge(faulty(fault)) as fake, speaking(fake) as engine:
        sound = await said(engine, mark(3))
        assert is_whole(sound, mark(3))
        assert await word(engine, mark(4)) == mark(4)


async def test_a_voice_that_the_service_has_not_is_the_texts_fault() -> None:
    """The breaker stays closed for the others."""
    async with Edge() as fake, speaking(fake) as engine:
        for _ in range(5):
            error, _ = await failure(engine, asked("Hello.", voice=NOBODY))
            assert (error.code, error.kind) == (Code.INPUT, Kind.INPUT)
        assert await word(engine, mark(1)) == mark(1)
        assert len(fake.sessions) == 6


# The clock


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


# Aborts


async def test_a_segment_that_nobody_asked_a_piece_of_connects_nowhere() -> None:
    """Closed before it began."""
    async with Edge() as fake, speaking(fake) as engine:
        await engine.speak(asked("Hello.")).aclose()
        assert fake.tokens == []


async def test_an_abort_while_connecting_leaves_nothing() -> None:
    """The half-open connection is cut at once."""
    async with Edge(faulty("silent@connect")) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.sessions == []


async def test_an_abort_before_the_first_piece_closes_the_connection() -> None:
    """There is no other way to tell the service."""
    async with Edge(Script(latency_ms=60_000)) as fake, speaking(fake) as engine:
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.sessions and fake.sessions[0].texts)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: fake.sessions[0].was_closed)


@pytest.mark.parametrize("fault", [None, Fault.parse("silent@stream")])
async def test_an_abort_in_the_middle_closes_the_connection(fault: Fault | None) -> None:
    """Also of a service that says nothing any more; it costs no attempt of the next one."""
    async with Edge(Script(drip_ms=20, fault=fault)) as fake, speaking(fake) as engine:
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()
        await until(lambda: fake.sessions[0].was_closed)
        fake.script = Script()
        assert await word(engine, mark(2)) == mark(2)


def test_without_an_address_of_its_own_it_asks_microsoft() -> None:
    """Whose host is a name."""
    assert remote({"type": "edge"}).is_named
    assert not remote({"type": "edge", "url": "ws://127.0.0.1:1/"}).is_named


def test_certificates_are_read_when_it_is_made() -> None:
    """Which is off the loop: the first segment must not hold the loop for the tenth of a second that this takes."""
    trust.cache_clear()
    remote({"type": "edge"})
    assert trust.cache_info().currsize == 1
