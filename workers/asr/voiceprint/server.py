"""The voiceprint server's two requests: is it well, and whose voice is this.

The health page's address carries the key, so that no address is ever logged or part of an error.
"""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import structlog

from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, UpstreamError
from shared.upstream.http import Answer, HttpConnections
from shared.upstream.upstream import Limits, Upstream
from shared.voiceprint import Address, Speaker
from workers.asr.timeline import RATE_HZ
from workers.asr.voiceprint.answer import is_healthy, speaker_in

log = structlog.get_logger(__name__)

NAME: Final = "voiceprint"
HEALTH_TIMEOUT_S: Final = 3.0
DEADLINES: Final = Deadlines(connect_s=3.0, first_s=5.0, idle_s=5.0, total_s=10.0)
"""Of an identification; its utterance mostly gives up much earlier."""

KEEP_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 64 * 1024


class VoiceprintServer:
    """All methods are the loop's."""

    def __init__(self, address: Address, speakers: tuple[Speaker, ...], threshold: float) -> None:
        self.upstream = Upstream(NAME, Limits(DEADLINES, warm_s=KEEP_S))
        self._address = address
        self._names: Mapping[str, str] = {speaker.id: speaker.name for speaker in speakers}
        self._threshold = threshold
        self._connections = HttpConnections(NAME, connect_s=DEADLINES.connect_s, keep_s=KEEP_S)

    def __repr__(self) -> str:
        return f"VoiceprintServer({self._address.base})"

    @property
    def resolves_names(self) -> bool:
        return self._connections.resolves_names

    async def is_well(self) -> bool:
        """Whatever goes wrong means no."""
        url = f"{self._address.base}/voiceprint/health?key={quote(self._address.key, safe='')}"
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                well = is_healthy(await _json_of(await self._connections.get(url, headers={})))
        except (TimeoutError, UpstreamError) as error:
            log.warning("voiceprint_unhealthy", code=error.code if isinstance(error, UpstreamError) else "timeout")
            return False
        if not well:
            log.warning("voiceprint_unhealthy", code="unwell")
        return well

    async def identify(self, pcm: bytes) -> str:
        """Whose voice it is: a name of the list, or UNKNOWN. Raises UpstreamError.

        The caller holds a request of `upstream`.
        """
        form = aiohttp.FormData()
        form.add_field("speaker_ids", ",".join(self._names))
        form.add_field("file", io.BytesIO(wav_of(pcm)), filename="audio.wav", content_type="audio/wav")
        headers = {"Authorization": f"Bearer {self._address.key}", "Accept": "application/json"}
        url = f"{self._address.base}/voiceprint/identify"
        answer = await _json_of(await self._connections.post(url, headers=headers, data=form))
        return speaker_in(answer, self._names, self._threshold)

    async def close(self) -> None:
        await self._connections.close()


async def _json_of(answer: Answer) -> Any:
    try:
        body = b""
        while piece := await answer.piece():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise UpstreamError("its answer is too long", code=Code.MALFORMED)
        return json.loads(body)
    except ValueError:
        raise UpstreamError("its answer is no JSON", code=Code.MALFORMED) from None
    finally:
        answer.close()


def wav_of(pcm: bytes) -> bytes:
    """A WAV file of s16le mono at 16 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(pcm)
    return file.getvalue()
