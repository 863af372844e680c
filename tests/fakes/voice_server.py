"""A small xiaozhi server with scripted answers and scripted faults, to test the device simulator against.

It recognises nothing: an utterance is packets too big for silence followed by ones that are not, or ended by `stop`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np
import opuslib
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ops.device.wire import pack_audio, unpack_audio

SPEECH_BYTES = 40
"""DTX packets and the refreshes between them are smaller."""

HELLO: dict[str, Any] = {
    "type": "hello",
    "version": 1,
    "transport": "websocket",
    "audio_params": {"format": "opus", "sample_rate": 24_000, "channels": 1, "frame_duration": 60},
}


@dataclass(frozen=True)
class Script:
    """One kind of answer, with {session} in texts filled in. The defaults are a well-behaved server."""

    transcript: str = "what time is it"
    sentences: tuple[str, ...] = ("It is noon.", "Time to eat.")
    frames_per_sentence: int = 6
    lead_frames: int = 3
    start_gap_s: float = 0.08
    thinking_s: float = 0.02
    hello: dict[str, Any] | None = field(default_factory=lambda: HELLO)
    status: int = 101
    token: str = ""
    is_flooding: bool = False
    late_by_s: float = 0.0
    """Every third frame waits so much longer."""
    stale_frames: int = 0
    """Sent right behind each `tts stop`."""
    sends_stop: bool = True
    ignores_speech: bool = False
    hangs_up_after_transcript: bool = False
    requests: tuple[dict[str, Any], ...] = ()
    """MCP requests sent after hello."""


def tone_packets(count: int, hz: float = 440.0) -> list[bytes]:
    """`count` packets of 60 ms at 24 kHz."""
    encoder = opuslib.Encoder(24_000, 1, opuslib.APPLICATION_AUDIO)
    samples = np.sin(np.arange(count * 1440) * (2 * np.pi * hz / 24_000)) * 8000
    frames = samples.astype(np.int16).reshape(count, 1440)
    return [encoder.encode(frame.tobytes(), 1440) for frame in frames]


class VoiceServer:
    """What it has seen is in `received`, in order: parsed JSON, and the size of each audio packet."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.packets = tone_packets(script.frames_per_sentence)
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.received: list[dict[str, Any] | int] = []
        self.talks: set[asyncio.Task[None]] = set()

    def messages(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.received if isinstance(message, dict) and message.get("type") == kind]

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(dict(request.headers.raw_items()))
        if self.script.status != 101:
            return connection.respond(HTTPStatus(self.script.status), "no\n")
        if self.script.token and request.headers.get("Authorization") != f"Bearer {self.script.token}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no token\n")
        return None

    async def serve(self, socket: ServerConnection) -> None:
        talk = Talk(self, socket)
        try:
            await talk.run()
        except ConnectionClosed:
            pass
        finally:
            await talk.stop()


class Talk:
    """One connection."""

    def __init__(self, server: VoiceServer, socket: ServerConnection) -> None:
        self.server = server
        self.script = server.script
        self.socket = socket
        self.session = f"session-{len(server.headers):04d}"
        assert socket.request is not None
        self.version: Any = int(socket.request.headers.get("Protocol-Version", "1"))
        self.mode = "auto"
        self.loud = 0
        self.quiet = 0
        self.is_listening = False
        self.is_speaking = False
        self.reply: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async for message in self.socket:
            if isinstance(message, bytes):
                self.on_audio(unpack_audio(self.version, message))
            else:
                await self.on_json(json.loads(message))

    async def stop(self) -> None:
        if self.reply is not None:
            self.reply.cancel()
            await asyncio.gather(self.reply, return_exceptions=True)
            self.reply = None

    def on_audio(self, packet: bytes) -> None:
        self.server.received.append(len(packet))
        if not self.is_listening or self.mode == "manual":
            return
        is_loud = len(packet) >= SPEECH_BYTES
        self.loud += is_loud
        self.quiet = 0 if is_loud else self.quiet + 1
        if self.loud >= 3 and self.quiet >= 5:
            self.begin(self.script.transcript)

    async def on_json(self, message: dict[str, Any]) -> None:
        self.server.received.append(message)
        match message:
            case {"type": "hello"}:
                if self.script.hello is not None:
                    await self.send({**self.script.hello, "session_id": self.session})
                for request in self.script.requests:
                    await self.send({"type": "mcp", "payload": request})
            case {"type": "listen", "state": "start", "mode": mode}:
                self.mode = mode
                self.is_listening = True
                self.loud = self.quiet = 0
            case {"type": "listen", "state": "stop"}:
                self.begin(self.script.transcript)
            case {"type": "listen", "state": "detect", "text": text}:
                self.begin(text)
            case {"type": "abort"}:
                await self.stop()
                await self.stop_speaking()

    def begin(self, text: str) -> None:
        self.loud = self.quiet = 0
        self.is_listening = self.mode == "realtime"
        if self.script.ignores_speech or (self.reply is not None and not self.reply.done()):
            return
        self.reply = asyncio.create_task(self.answer(text), name=f"answer-{self.session}")

    async def answer(self, text: str) -> None:
        script = self.script
        await asyncio.sleep(script.thinking_s)
        await self.send({"type": "stt", "text": text})
        if script.hangs_up_after_transcript:
            await self.socket.close(1000)
            return
        await self.send({"type": "llm", "emotion": "happy", "text": "🙂"})
        await self.send({"type": "tts", "state": "start"})
        self.is_speaking = True
        await asyncio.sleep(script.start_gap_s)
        await self.speak()
        if script.sends_stop:
            await self.stop_speaking()

    async def speak(self) -> None:
        script = self.script
        loop = asyncio.get_running_loop()
        due_s = loop.time() - script.lead_frames * 0.06
        packets = self.server.packets
        for sentence in script.sentences:
            await self.send({"type": "tts", "state": "sentence_start", "text": sentence})
            for number, packet in enumerate(packets):
                due_s = max(due_s + 0.06, loop.time() - script.lead_frames * 0.06)
                if script.late_by_s and number % 3 == 2:
                    due_s += script.late_by_s
                if not script.is_flooding:
                    await asyncio.sleep(due_s - loop.time())
                await self.socket.send(pack_audio(self.version, packet))
        if not script.is_flooding:
            await asyncio.sleep(due_s + (script.lead_frames + 1) * 0.06 - loop.time())

    async def stop_speaking(self) -> None:
        await self.send({"type": "tts", "state": "stop"})
        self.is_speaking = False
        for packet in tone_packets(self.script.stale_frames or 1)[: self.script.stale_frames]:
            await self.socket.send(pack_audio(self.version, packet))

    async def send(self, message: dict[str, Any]) -> None:
        text = json.dumps({"session_id": self.session, **message}, ensure_ascii=False)
        await self.socket.send(text.replace("{session}", self.session))


@asynccontextmanager
async def voice_server(script: Script | None = None) -> AsyncIterator[VoiceServer]:
    """A server on a free port of the loopback interface."""
    fake = VoiceServer(script or Script())
    async with serve(
        fake.serve, "127.0.0.1", 0, process_request=fake.check, compression=None, close_timeout=1
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        fake.url = f"ws://127.0.0.1:{port}/xiaozhi/v1/"
        yield fake
