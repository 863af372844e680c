"""People with devices, for end-to-end tests: what they say, and a device that is enrolled and connected."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stderr
from functools import cache
from typing import Any

import aiohttp
import numpy as np
import soxr
from pocketsphinx import Decoder

from ops.device.client import Device, DeviceOptions
from ops.device.enrolment import Identity, enrol, simulated_mac
from ops.device.firmware import Profile
from ops.device.opus import Pcm, Speech, decode, encode_speech, silence
from ops.device.speech import Voice
from ops.device.tools import DeviceTools
from shared.listening import Mode
from tests.fakes.cluster import Cluster


@cache
def voice() -> Voice:
    return Voice()


@cache
def said(text: str) -> Speech:
    """`text` in the project's own voice, as a device's microphone sends it."""
    return encode_speech(voice().say(text))


@cache
def quiet() -> tuple[bytes, ...]:
    return silence()


@cache
def _recogniser() -> Decoder:
    return Decoder(loglevel="FATAL")


def heard_as(packets: list[bytes]) -> str:
    """What a listener understands of the Opus that a device has played."""
    pcm: Pcm = decode(packets, 0.06)
    wide = soxr.resample(pcm.astype(np.float32), 24_000, 16_000)
    decoder = _recogniser()
    with redirect_stderr(io.StringIO()):
        decoder.start_utt()
        decoder.process_raw(wide.astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait for what a device's counters tell; they change with every message, and have no event of their own."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.003)


class ListedTools(DeviceTools):
    """Tells when the server has asked for the tools; a person needs longer than that to speak."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = asyncio.Event()

    def answer(self, request: object) -> dict[str, Any] | None:
        answer = super().answer(request)
        if answer and "tools" in answer.get("result", {}) and "nextCursor" not in answer["result"]:
            self.listed.set()
        return answer


@asynccontextmanager
async def device(
    cluster: Cluster,
    number: int = 1,
    *,
    mode: Mode = "auto",
    profile: Profile | None = None,
    protocol: int = 1,
    tools: DeviceTools | None = None,
) -> AsyncIterator[Device]:
    """A device that asked the OTA page for its token and has said hello."""
    identity = Identity(simulated_mac("e2e", number))
    async with aiohttp.ClientSession() as http:
        enrolment = await enrol(http, cluster.ota_url, identity)
    options = DeviceOptions(
        identity,
        mode=mode,
        profile=profile or Profile(),
        keep_audio=True,
        protocol=protocol,  # type: ignore[arg-type]
    )
    async with Device(options, quiet(), tools=tools) as client:
        await client.open(enrolment.url, enrolment.token)
        yield client
