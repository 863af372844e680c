"""`type: openai`: any server with OpenAI's `/audio/speech`; its answer is decoded while it comes.

Rules
- WAV is asked for, because it says its own rate and begins at once; the answer's first bytes and its Content-Type say
  what really came. A server that takes no WAV is asked for MP3, then for raw samples; what it took once it is asked for
  from then on. `format` in the section settles it.
- A text longer than the API takes is cut and asked for part by part.
- Connections are kept for the next segment. A cancel closes its connection at once: there is no other way to say it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any, Final

from shared.config.options.openai import OpenAiTtsOptions
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.http import Answer, HttpConnections
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Upstream
from workers.tts import sentences
from workers.tts.decoding.formats import Declared, Format, declared
from workers.tts.decoding.sound import SoundDecoder
from workers.tts.engine import SpeechRequest
from workers.tts.engines.attempts import Pieces, retried
from workers.tts.engines.decoded import decoded

MAX_PART_CHARS: Final = 2000
"""OpenAI takes 4096; a shorter part begins sooner where a server renders all of it first."""
TOTAL_S: Final = 300.0
_ASKED: Final = ("wav", "mp3", "pcm")
_FORMATS: Final = {"opus": Format.OGG} | {kind.value: kind for kind in Format}


class OpenAiEngine:
    """One section. Not deterministic: models differ from call to call."""

    deterministic = False
    sample_rate = 24_000
    languages: frozenset[str] = frozenset()

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._options = OpenAiTtsOptions.of(EngineChoice(name=section, type="openai", options=options))
        self.is_named = HttpConnections.resolves_names
        prepare_trust(self._options.url)
        name = f"TTS.{section}"
        self._upstream = Upstream(name, _limits(self._options))
        self._http = HttpConnections(name, connect_s=self._options.connect_timeout_s, keep_s=self._options.warm_s)
        self._formats: tuple[str, ...] = (self._options.format,) if self._options.format else _ASKED
        """Those still to be tried, the first first; a single one is settled."""

    async def start(self) -> None:
        """Nothing is asked before there is something to say."""

    async def speak(self, request: SpeechRequest) -> Pieces:
        for part in sentences.bounded(request.text, MAX_PART_CHARS):
            async with aclosing(retried(partial(self._spoken, part, request), self._upstream.name)) as pieces:
                async for piece in pieces:
                    yield piece

    async def close(self) -> None:
        await self._http.close()

    async def _spoken(self, text: str, asked: SpeechRequest) -> Pieces:
        async with self._upstream.request(asked.owner) as request, AsyncExitStack() as stack:
            async with request.waits.first():
                answer, kind = await self._answer(text, asked.voice)
                stack.callback(answer.close)
                decoder = SoundDecoder(self._known(answer, kind), self.sample_rate)
                piece = await answer.piece()
            async with aclosing(decoded(piece, answer.piece, decoder, request)) as sounds:
                async for sound in sounds:
                    yield sound

    async def _answer(self, text: str, voice: str | None) -> tuple[Answer, str]:
        """The answer's head, and what was asked for."""
        refusal: UpstreamError | None = None
        for kind in self._formats:
            try:
                answer = await self._post(text, voice, kind)
            except UpstreamError as error:
                if error.kind is not Kind.INPUT:
                    raise
                refusal = error
                continue
            self._formats = (kind,)
            return answer, kind
        assert refusal is not None
        raise refusal

    async def _post(self, text: str, voice: str | None, kind: str) -> Answer:
        options = self._options
        body: dict[str, Any] = {
            "model": options.model,
            "input": text,
            "voice": voice or options.voice,
            "response_format": kind,
        }
        if options.speed != 1.0:
            body["speed"] = options.speed
        if options.instructions:
            body["instructions"] = options.instructions
        headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
        return await self._http.post(options.url, headers=headers, json=body)

    def _known(self, answer: Answer, kind: str) -> Declared:
        known = declared(answer.content_type, _FORMATS[kind], self._options.sample_rate)
        if known is None:
            raise UpstreamError("it answered with something else than sound", code=Code.MALFORMED)
        return known


def _limits(options: OpenAiTtsOptions) -> Limits:
    deadlines = Deadlines(options.connect_timeout_s, options.first_timeout_s, options.idle_timeout_s, total_s=TOTAL_S)
    return Limits(deadlines, sessions=options.max_sessions, warm_s=options.warm_s)
