"""The services outside that voices are asked of: each with its fake, and where it may differ from the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.upstreams import aliyun_tts, edge, huoshan, openai_speech
from bench.upstreams.fake import Fake
from bench.upstreams.script import Fault, Script
from bench.upstreams.synthesiser import GARBAGE
from bench.upstreams.voice import spoken
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_voice import speaking
from workers.tts.engine import RemoteEngine

RATE_HZ = 24_000
MP3_PADDING_BYTES = 2 * RATE_HZ // 5
"""What MP3 adds to a sound at most."""
LONG = "Once upon a time there was a very small robot. " * 8
"""Speaks for more than twenty seconds."""

Failure = tuple[str, str, Kind]
"""A fault of the fake, and the error's code and kind that follow."""


@dataclass(frozen=True)
class VoiceService:
    """What a provider's client is asked for in the same words as any other's."""

    name: str
    make: Callable[..., Any]
    secret: str
    """Stands in every request."""
    nobody: str
    """A voice that the service does not have."""
    before_any_sound: Sequence[Failure]
    later: Sequence[tuple[str, str]]
    """Faults behind the first sound, and the error's code."""
    voice: str = ""
    """The section's."""
    voice_key: str = "voice"
    """Of the start message."""
    secret_key: str = ""
    """The option that holds the secret; "" if there is none to configure."""
    part_bytes: int = 0
    """How much text a request takes; 0 = any."""
    is_mp3: bool = False
    """The sound is no copy of what was sent, but about as long."""
    trails_garbage: bool = False
    """Bytes that are no message are sound to the protocol."""
    sight: Callable[[Fake], int] = field(default=lambda fake: fake.connections)
    """How many attempts the service has seen."""
    silences: Mapping[str, str] = field(default_factory=dict)
    """Stage → the deadline that finds a silence there, where it is none of the usual."""
    flaws: Callable[[Any], int] = field(default=lambda fake: 0)
    """What the fake has seen that a client must never do."""

    def is_whole(self, sound: bytes, *texts: str) -> bool:
        """Was all heard, one text behind the other, and nothing else?"""
        said = b"".join(map(spoken, texts))
        if self.is_mp3:
            return 0 <= len(sound) - len(said) <= len(texts) * MP3_PADDING_BYTES
        return sound == said

    def is_beginning(self, sound: bytes, text: str) -> bool:
        """Is it some of the text's sound, perhaps all?"""
        whole = spoken(text)
        if self.is_mp3:
            return 0 < len(sound) <= len(whole) + MP3_PADDING_BYTES
        said = sound.removesuffix(GARBAGE) if self.trails_garbage else sound
        return bool(said) and whole.startswith(said)

    def impatient(self, fault: str, seconds: float) -> dict[str, float]:
        """Options that find a silence soon; all other deadlines are generous."""
        kind, _, stage = fault.partition("@")
        usual = {"connect": "connect_timeout_s", "start": "first_timeout_s"}
        return {{**usual, **self.silences}.get(stage, "idle_timeout_s"): seconds} if kind == "silent" else {}

    def passing(self) -> list[str]:
        """The faults that one more attempt survives."""
        return [fault for fault, _, kind in self.before_any_sound if kind is Kind.RETRYABLE]

    @asynccontextmanager
    async def place(
        self, script: Script | None = None, *, fake: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[Any, RemoteEngine]]:
        """The fake, made with the arguments `fake`, and the engine of the section that leads to it."""
        async with self.make(script, **(fake or {})) as server:
            async with speaking(server, **options) as engine:
                yield server, engine
            assert self.flaws(server) == 0


def faulty(fault: str, **more: int) -> Script:
    return Script(fault=Fault.parse(fault), **more)


def _connecting(error: str) -> list[Failure]:
    return [
        ("silent@connect", Code.CONNECT_TIMEOUT, Kind.RETRYABLE),
        ("error@connect", error, Kind.RETRYABLE),
        ("quota@connect", Code.QUOTA, Kind.QUOTA),
        ("close@connect", Code.CONNECT, Kind.RETRYABLE),
        ("garbage@connect", Code.CONNECT, Kind.RETRYABLE),
    ]


def _starting(error: str) -> list[Failure]:
    return [
        ("silent@start", Code.FIRST_TIMEOUT, Kind.RETRYABLE),
        ("error@start", error, Kind.RETRYABLE),
        ("quota@start", Code.QUOTA, Kind.QUOTA),
        ("close@start", Code.CLOSED, Kind.RETRYABLE),
        ("garbage@start", Code.MALFORMED, Kind.RETRYABLE),
    ]


def _streaming(error: str) -> list[tuple[str, str]]:
    codes = {
        "silent": Code.IDLE_TIMEOUT,
        "error": error,
        "quota": Code.QUOTA,
        "close": Code.CLOSED,
        "garbage": Code.MALFORMED,
    }
    return [(f"{kind}@{stage}", code) for kind, code in codes.items() for stage in ("stream", "finish")]


_MUTE: list[Failure] = [
    ("no_result@finish", Code.NO_RESULT, Kind.RETRYABLE),
    ("no_speech@finish", Code.NO_RESULT, Kind.RETRYABLE),
]

ALIYUN = VoiceService(
    "aliyun",
    aliyun_tts.AliyunTts,
    secret=aliyun_tts.TOKEN,
    secret_key="token",
    voice="longxiaochun",
    nobody=aliyun_tts.NOBODY,
    before_any_sound=[*_connecting(Code.FAILED), *_starting(Code.FAILED), *_MUTE],
    later=_streaming(Code.FAILED),
    trails_garbage=True,
)
HUOSHAN = VoiceService(
    "huoshan",
    huoshan.Huoshan,
    secret=huoshan.ACCESS_TOKEN,
    secret_key="access_token",
    nobody=huoshan.NOBODY,
    voice=huoshan.SPEAKER,
    voice_key="speaker",
    before_any_sound=[*_connecting(Code.REFUSED), *_starting(Code.FAILED), *_MUTE],
    later=_streaming(Code.FAILED),
    flaws=lambda fake: fake.overlaps,
)
EDGE = VoiceService(
    "edge",
    edge.Edge,
    secret=edge.TRUSTED,
    nobody=edge.NOBODY,
    before_any_sound=[
        *_connecting(Code.FAILED),
        *_starting(Code.CLOSED),
        ("no_result@finish", Code.NO_RESULT, Kind.INPUT),
    ],
    later=_streaming(Code.CLOSED),
    part_bytes=4095,
    is_mp3=True,
)
OPENAI = VoiceService(
    "openai",
    openai_speech.OpenAiSpeech,
    secret=openai_speech.API_KEY,
    secret_key="api_key",
    voice="onyx",
    nobody=openai_speech.NOBODY,
    before_any_sound=[
        ("silent@connect", Code.FIRST_TIMEOUT, Kind.RETRYABLE),
        ("error@connect", Code.FAILED, Kind.RETRYABLE),
        ("quota@connect", Code.QUOTA, Kind.QUOTA),
        ("close@connect", Code.CLOSED, Kind.RETRYABLE),
        ("garbage@connect", Code.MALFORMED, Kind.RETRYABLE),
        *_starting(Code.FAILED),
        ("no_result@start", Code.NO_RESULT, Kind.INPUT),
        ("no_result@finish", Code.NO_RESULT, Kind.INPUT),
    ],
    later=[
        ("silent@stream", Code.IDLE_TIMEOUT),
        ("silent@finish", Code.IDLE_TIMEOUT),
        ("error@stream", Code.CLOSED),
        ("close@stream", Code.CLOSED),
        ("close@finish", Code.CLOSED),
    ],
    part_bytes=3 * openai_speech.MAX_TEXT_CHARS,
    sight=lambda fake: len(fake.sessions),
    silences={"connect": "first_timeout_s"},
)
SERVICES = (ALIYUN, HUOSHAN, EDGE, OPENAI)
KEEPING = (ALIYUN, HUOSHAN, OPENAI)
"""Their connections are used again."""
CUTTING = (EDGE, OPENAI)
"""They take no text of any length: a long one is several requests."""
PIPED = (ALIYUN, HUOSHAN)
"""The text follows the start, in pieces; both say when the sound has ended and how many may speak at once."""
