"""`type: edge`: the voices of Microsoft Edge. Keys: shared/config/options/edge.py.

The package edge-tts knows the service's address, headers and token, which change now and then; an update of that
package alone follows them. The conversation itself is ours, because the package's has no deadline that fits and takes
seconds to let go.

Rules
- A connection is for one request: the service blocks who uses one twice (edge-tts#49). Closing it is the only cancel.
- The token is made of the time. Who is refused with 403 is told the service's time in the same answer; with that it is
  asked once more, and the difference is kept (edge-tts#290).
- A voice that is no voice of this service is not asked for: the section's speaks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final

from edge_tts.constants import SEC_MS_GEC_VERSION, WSS_HEADERS, WSS_URL
from edge_tts.drm import DRM

from shared.config.options.edge import EdgeTtsOptions
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, CodeTable, Kind, UpstreamError
from shared.upstream.host import is_name
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Request, Upstream
from shared.upstream.websocket import UpgradeRefused, Wire, open_wire
from workers.tts import sentences
from workers.tts.decoding.formats import Declared, Format
from workers.tts.decoding.sound import SoundDecoder
from workers.tts.engine import SpeechRequest
from workers.tts.engines import edge_protocol as protocol
from workers.tts.engines.attempts import Pieces, retried
from workers.tts.engines.decoded import decoded

TOTAL_S: Final = 300.0
_FORBIDDEN: Final = "403"
_OURS: Final = ("sec-websocket-version", "accept-encoding")
"""Headers that the connection itself writes, or that mean nothing for one."""

CLOSES: Final = CodeTable({"1007": (Code.INPUT, Kind.INPUT), "1013": (Code.QUOTA, Kind.QUOTA)})
"""How the service says that it cannot speak this text or has no such voice, and that it has had enough of us."""


class EdgeEngine:
    """One section. Not deterministic: the service improves its voices without notice."""

    deterministic = False
    sample_rate = 24_000
    languages: frozenset[str] = frozenset()

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._options = EdgeTtsOptions.of(EngineChoice(name=section, type="edge", options=options))
        self._prosody = protocol.Prosody(self._options.rate, self._options.volume, self._options.pitch)
        self._url = self._options.url or WSS_URL
        self.is_named = is_name(self._url)
        prepare_trust(self._url)
        self._upstream = Upstream(f"TTS.{section}", _limits(self._options))

    async def start(self) -> None:
        """Nothing is asked before there is something to say."""

    async def speak(self, request: SpeechRequest) -> Pieces:
        voice = request.voice if request.voice and protocol.is_voice(request.voice) else self._options.voice
        for part in sentences.bounded(request.text, protocol.MAX_PART_CHARS):
            spoken = retried(partial(self._spoken, part, voice, request.owner), self._upstream.name)
            async with aclosing(spoken) as pieces:
                async for piece in pieces:
                    yield piece

    async def close(self) -> None:
        """No connection outlives its request."""

    async def _spoken(self, text: str, voice: str, owner: str) -> Pieces:
        request_id = uuid.uuid4().hex
        decoder = SoundDecoder(Declared(Format.MP3), self.sample_rate)
        async with self._upstream.request(owner) as request, self._connected(request) as wire:
            async with request.waits.first():
                stamp = _stamp()
                await wire.send(protocol.config_message(stamp))
                await wire.send(protocol.ssml_message(request_id, stamp, text, voice, self._prosody))
                piece = await _next_sound(wire, request_id)
            async with aclosing(decoded(piece, lambda: _next_sound(wire, request_id), decoder, request)) as sounds:
                async for sound in sounds:
                    yield sound

    @asynccontextmanager
    async def _connected(self, request: Request) -> AsyncIterator[Wire]:
        async with request.waits.connecting():
            try:
                wire = await self._opened()
            except UpgradeRefused as refused:
                if refused.reason != _FORBIDDEN or not _set_clock(refused.date):
                    raise
                wire = await self._opened()
        request.on_connected()
        try:
            yield wire
        finally:
            await wire.close()

    async def _opened(self) -> Wire:
        joint = "&" if "?" in self._url else "?"
        token = f"Sec-MS-GEC={DRM.generate_sec_ms_gec()}&Sec-MS-GEC-Version={SEC_MS_GEC_VERSION}"
        return await open_wire(f"{self._url}{joint}ConnectionId={uuid.uuid4().hex}&{token}", _headers())


async def _next_sound(wire: Wire, request_id: str) -> bytes:
    """The request's next piece of MP3; b"" at its end. What belongs to another request is dropped."""
    while True:
        message = protocol.read(await _received(wire))
        if message.request_id not in ("", request_id):
            continue
        if message.is_sound:
            return message.body
        if message.path == protocol.TURN_END:
            return b""


async def _received(wire: Wire) -> str | bytes:
    try:
        return await wire.receive()
    except UpstreamError as error:
        if error.code == Code.CLOSED and error.reason in CLOSES.meanings:
            raise CLOSES.error(error.reason, "it refused the request") from None
        raise


def _headers() -> dict[str, str]:
    headers: dict[str, str] = DRM.headers_with_muid(WSS_HEADERS)
    return {name: value for name, value in headers.items() if name.lower() not in _OURS}


def _set_clock(date: str) -> bool:
    """The package's clock, by an HTTP date; False if that is none."""
    theirs_s = DRM.parse_rfc2616_date(date) if date else None
    if theirs_s is None:
        return False
    DRM.adj_clock_skew_seconds(theirs_s - DRM.get_unix_timestamp())
    return True


def _stamp() -> str:
    """Now, as JavaScript writes a date."""
    return time.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)", time.gmtime())


def _limits(options: EdgeTtsOptions) -> Limits:
    deadlines = Deadlines(options.connect_timeout_s, options.first_timeout_s, options.idle_timeout_s, total_s=TOTAL_S)
    return Limits(deadlines, sessions=options.max_sessions)
