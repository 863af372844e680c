"""A simulated device that tells the judge whose sound it hears, frame by frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import opuslib

from bench.trial.events import (
    Aborted,
    DeviceEvent,
    Frame,
    Heard,
    HungUp,
    ReplyStarted,
    ReplyStopped,
    Sentence,
    Tone,
    ToolRan,
)
from ops.device import wire
from ops.device.client import Device, DeviceOptions
from ops.device.opus import MIC_RATE, SPEAKER_RATE, Pcm, Speech, encode_speech
from ops.device.tools import DeviceTools, Tool
from router.talk.prompts import load_prompts
from shared.errors import DeviceProtocolError
from shared.marks import Mark, mark_of, sound_of

NOTE_TOOL = "self.note"
"""A tool of these devices: it changes something, so it must not run twice."""
NOTE_FUNCTION = "self_note"
"""What a model calls it."""
QUIET = 200.0
"""Root mean square of 16-bit samples."""
PARTS = 6
"""A frame in which a tone begins or ends holds too little of it to be sure of: all parts are about equally loud."""
MARK_LEVEL = 0.05
MARK_EDGE_S = 0.12
MARK_FADE_S = 0.04
MAX_KNOWN_PACKETS = 100_000

Tell = Callable[[DeviceEvent], None]


class FrameReader:
    """What packets sound like. Equal packets sound alike, so most are decoded once in a run."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Tone, Mark | None]] = {
            frame: (Tone.PROMPT, None) for prompt in load_prompts().values() for frame in prompt.frames
        }

    def read(self, packet: bytes, decoder: opuslib.Decoder) -> tuple[Tone, Mark | None]:
        """`decoder` is the device's own."""
        known = self._known.get(packet)
        if known is None:
            known = self._listen(packet, decoder)
            if len(self._known) < MAX_KNOWN_PACKETS:
                self._known[packet] = known
        return known

    @staticmethod
    def _listen(packet: bytes, decoder: opuslib.Decoder) -> tuple[Tone, Mark | None]:
        pcm = np.frombuffer(decoder.decode(packet, SPEAKER_RATE * 120 // 1000), np.int16)
        levels = [float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) for part in np.array_split(pcm, PARTS)]
        if max(levels) < QUIET or min(levels) < max(levels) / 2:
            return Tone.QUIET, None
        mark = mark_of(pcm, SPEAKER_RATE)
        return (Tone.PLAIN if mark is None else Tone.MARKED), mark


def marked_speech(voice: Pcm, mark: Mark) -> Speech:
    """A sentence with a mark over it, which comes and goes softly inside the quiet before and behind the words.

    A tone at the very end would go on in the comfort noise that a decoder makes of the silence behind it.
    """
    edge, soft = int(MARK_EDGE_S * MIC_RATE), int(MARK_FADE_S * MIC_RATE)
    loudness = np.zeros(len(voice))
    loudness[edge:-edge] = 32767
    loudness = np.convolve(loudness, np.ones(soft) / soft, "same")
    tones = loudness * sound_of(mark, 0, len(voice), MIC_RATE, MARK_LEVEL)
    return encode_speech(np.clip(voice + tones, -32767, 32767).astype(np.int16))


class MarkedDevice(Device):
    """One device; `number` is the one in its marks. Also waits for what was told."""

    def __init__(
        self, options: DeviceOptions, silence: Sequence[bytes], *, number: int, reader: FrameReader, tell: Tell
    ) -> None:
        tools = DeviceTools()
        tools.add(Tool(NOTE_TOOL, "Write a note down.", self._note_down, {"text": {"type": "string"}}))
        super().__init__(options, silence, tools=tools)
        self.number = number
        self.stops = 0
        self.starts = 0
        self.frames = 0
        self.heard = 0
        self.marked_frames = 0
        """Of the present reply."""
        self.sentence = ""
        self.sentence_frames = 0
        """Of the present sentence."""
        self.holds_answers = False
        """What tools return is kept until `answer_tools`."""
        self._answers: list[dict[str, Any]] = []
        self.last_word_s = 0.0
        """When the server last said anything."""
        self._reader = reader
        self._tell_judge = tell
        self._decoder = opuslib.Decoder(SPEAKER_RATE, 1)
        self._has_changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for it while the server goes on: False if it was silent for so long. DeviceError if it hung up."""
        self.last_word_s = time.monotonic()
        while not condition():
            if self.failure is not None:
                raise self.failure
            self._has_changed.clear()
            left_s = self.last_word_s + timeout_s - time.monotonic()
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(left_s):
                    await self._has_changed.wait()
            except TimeoutError:
                continue
        return True

    @property
    def is_turn_over(self) -> bool:
        return self._is_turn_over

    def begin_text(self, text: str) -> None:
        """Type something; `turn_over` waits for the end."""
        self._new_turn(None)
        now = self._now()
        self._meter.on_done_speaking(now)
        self._apply(self.firmware.type_text(now, text))

    async def settled(self, timeout_s: float = 30.0) -> None:
        """Until nothing is under way on the device any more."""
        await self.until(lambda: self.firmware.is_settled, timeout_s)

    def let_go(self) -> None:
        """The talk button comes up before everything was said."""
        self._apply(self.firmware.stop_listening(self._now()))

    def abort(self, reason: str | None = None) -> None:
        self._tell_judge(Aborted(self.number))
        super().abort(reason)

    def _note_down(self, arguments: dict[str, Any]) -> str:
        self._tell_judge(ToolRan(self.number, str(arguments.get("text"))))
        return "noted"

    def _on_message(self, message: str | bytes) -> None:
        self.last_word_s = time.monotonic()
        try:
            if isinstance(message, bytes):
                self._judge_frame(wire.unpack_audio(self.options.protocol, message))
            else:
                self._judge_text(wire.parse(message))
        except (DeviceProtocolError, opuslib.OpusError):
            self.faults["unreadable"] += 1
        super()._on_message(message)
        self._has_changed.set()

    def _judge_frame(self, packet: bytes) -> None:
        tone, mark = self._reader.read(packet, self._decoder)
        self.frames += 1
        self.marked_frames += mark is not None
        self.sentence_frames += 1
        self._tell_judge(Frame(self.number, tone, mark))

    def _judge_text(self, message: dict[str, Any]) -> None:
        text = str(message.get("text", ""))
        match message["type"], message.get("state"):
            case "stt", _:
                self.heard += 1
                self._tell_judge(Heard(self.number, text))
            case "tts", "start":
                self.starts += 1
                self.marked_frames, self.sentence, self.sentence_frames = 0, "", 0
                self._tell_judge(ReplyStarted(self.number))
            case "tts", "sentence_start":
                self.sentence, self.sentence_frames = text, 0
                self._tell_judge(Sentence(self.number, text))
            case "tts", "stop":
                self.stops += 1
                self._tell_judge(ReplyStopped(self.number))

    def _on_mcp(self, request: object) -> None:
        if self.holds_answers and isinstance(request, dict) and request.get("method") == "tools/call":
            answer = self.tools.answer(request)
            self._answers += [] if answer is None else [answer]
        else:
            super()._on_mcp(request)

    def answer_tools(self) -> None:
        """Send what was kept, and keep nothing more."""
        self.holds_answers = False
        answers, self._answers = self._answers, []
        for answer in answers:
            self.send(wire.mcp(self.session, answer))

    def _on_timer(self) -> None:
        super()._on_timer()
        self._has_changed.set()

    def _on_closed(self, code: int, reason: str) -> None:
        if not self._is_closing:
            self._tell_judge(HungUp(self.number, code))
        super()._on_closed(code, reason)
        self._has_changed.set()
