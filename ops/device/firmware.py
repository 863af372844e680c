"""What the firmware of a xiaozhi device does with messages, audio and buttons. Pure: time is an argument.

Facts, all of 78/xiaozhi-esp32 (main/application.cc, main/audio/audio_service.cc, version 2.4.2)
- JSON is handled in the main loop, a little after it arrived; binary frames are judged against the state at once.
  All messages that arrived by one pass of the main loop are handled in it, and only the last state is acted on.
- Audio outside Speaking is dropped. Entering Speaking clears what is queued, and so does beginning to listen.
- The decode queue holds 40 packets, by count; when it is full the new packet is dropped. Up to 3 more are in output.
- `tts stop`: manual goes to Idle; auto plays the queue out, then sends `listen start`; in realtime the microphone has
  been running all the time and nothing is sent. Releases 1.8 to 2.1 threw the queue away instead (`plays_out`).
- `abort` changes nothing by itself: the device stays in Speaking until `tts stop`.
- The first microphone frame comes 180 ms after `listen start`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ops.device.effects import (
    Capture,
    Counters,
    Effect,
    Play,
    SendAbort,
    SendDetect,
    SendPacket,
    SendStart,
    SendStop,
)
from ops.device.speaker import Speaker
from shared.errors import TransitionError
from shared.listening import Mode

WAKE_FRAMES = 33
"""Two seconds of audio from before the wake word was recognised."""


class State(StrEnum):
    IDLE = "idle"
    CONNECTING = "connecting"
    LISTENING = "listening"
    SPEAKING = "speaking"


class Action(StrEnum):
    """What a person does, or the network."""

    CONNECT = "connect"
    CONNECTED = "connected"
    START = "start"
    STOP = "stop"
    ABORT = "abort"
    WAKE = "wake"


OPEN_STATES = frozenset({State.IDLE, State.LISTENING, State.SPEAKING})

ALLOWED: dict[Action, frozenset[State]] = {
    Action.CONNECT: frozenset({State.IDLE}),
    Action.CONNECTED: frozenset({State.CONNECTING}),
    Action.START: OPEN_STATES,
    Action.STOP: frozenset({State.LISTENING}),
    # The firmware's button aborts in Speaking only; other clients send it at any time, and no state depends on it.
    Action.ABORT: OPEN_STATES,
    Action.WAKE: OPEN_STATES,
}


@dataclass(frozen=True, slots=True)
class Profile:
    """Where firmware releases and boards differ."""

    main_loop_s: float = 0.02
    """From a message's arrival to the pass of the main loop that handles it."""
    decode_queue_packets: int = 40
    output_packets: int = 3
    plays_out: bool = True
    """False: releases 1.8 to 2.1, which clear the queue on `tts stop` in auto mode."""
    mic_warm_up_s: float = 0.18
    mic_frame_s: float = 0.06
    late_after_s: float = 0.005
    """A frame is late when it comes this much more than one frame duration after the one before."""


class Firmware:
    """One device. Every method takes `now` in seconds, never earlier than the call before, and returns effects."""

    def __init__(self, mode: Mode, profile: Profile | None = None) -> None:
        self.mode: Mode = mode
        self.profile = profile or Profile()
        self.state = State.IDLE
        self.counters = Counters()
        self.speaker = Speaker(self.profile.decode_queue_packets, self.profile.output_packets)
        self._mic_next_s: float | None = None
        self._pass_s: float | None = None
        self._scheduled: list[str] = []
        self._is_start_deferred = False
        self._is_reply_open = False
        self._is_aborting = False
        self._last_frame_s: float | None = None
        self._is_new_sentence = False
        self._has_sounded = False
        self._owed: list[Effect] = []
        """What had happened by itself when an illegal action came; the next call returns it."""

    def __repr__(self) -> str:
        return (
            f"Firmware({self.mode} {self.state} queued={self.speaker.queued_packets} mic={self._mic_next_s}"
            f" pass={self._pass_s} deferred={self._is_start_deferred} reply={self._is_reply_open})"
        )

    @property
    def is_mic_on(self) -> bool:
        return self._mic_next_s is not None

    @property
    def is_settled(self) -> bool:
        """Nothing is under way: no reply, no sound, no message to handle, no `listen start` to come."""
        waiting = self._is_reply_open or self._scheduled or self._is_start_deferred
        return not waiting and self.speaker.is_silent

    def wake_at_s(self) -> float | None:
        """When `advance` is next needed. While a reply is open its frames move the playback along."""
        moments = [self._mic_next_s, self._due_pass_s()]
        if not self._is_reply_open:
            moments.append(self.speaker.runs_dry_at_s())
        return min((moment for moment in moments if moment is not None), default=None)

    # A person, or the network

    def connect(self, now: float) -> list[Effect]:
        effects = self._act(Action.CONNECT, now)
        self.state = State.CONNECTING
        return effects

    def connected(self, now: float, frame_s: float = 0.06) -> list[Effect]:
        """The server's hello has come; messages that came meanwhile are handled in the next pass."""
        effects = self._act(Action.CONNECTED, now)
        self.state = State.IDLE
        self.speaker.frame_s = frame_s
        if self._scheduled:
            self._pass_s = now + self.profile.main_loop_s
        return effects

    def start_listening(self, now: float) -> list[Effect]:
        """The talk button goes down. In Speaking the reply is aborted first."""
        effects = self._act(Action.START, now)
        if self.state is State.SPEAKING:
            effects += self._send_abort(None)
        self._change(State.LISTENING)
        return effects + self._begin_listening(now)

    def stop_listening(self, now: float) -> list[Effect]:
        """The talk button comes up (push-to-talk)."""
        effects = self._act(Action.STOP, now)
        self._change(State.IDLE)
        self._mic_next_s = None
        return [*effects, SendStop()]

    def abort(self, now: float, reason: str | None = None) -> list[Effect]:
        return self._act(Action.ABORT, now) + self._send_abort(reason)

    def wake(self, now: float, text: str, heard: Sequence[bytes] = ()) -> list[Effect]:
        """The wake word with the audio that held it, or a typed question. `start` follows `detect` at once."""
        effects = self._act(Action.WAKE, now)
        was = self.state
        self._change(State.LISTENING)
        if was is State.IDLE:
            effects += [SendPacket(packet) for packet in heard[-WAKE_FRAMES:]]
            return [*effects, SendDetect(text), *self._begin_listening(now)]
        effects += self._send_abort("wake_word_detected")
        if was is State.SPEAKING:
            return effects + self._enter_listening(now)
        return effects + self._begin_listening(now)

    def type_text(self, now: float, text: str) -> list[Effect]:
        """A question typed into an app: `detect` alone, as the browser page of today's server sends it."""
        return [*self._act(Action.WAKE, now), SendDetect(text)]

    def disconnected(self, now: float) -> list[Effect]:
        """The socket is gone. What is queued plays on."""
        effects = self.advance(now)
        self._change(State.IDLE)
        self._scheduled.clear()
        self._pass_s = self._mic_next_s = self._last_frame_s = None
        self._is_reply_open = self._is_aborting = False
        return effects

    # The server

    def on_tts_start(self, now: float) -> list[Effect]:
        effects = self.advance(now)
        self.counters.tts_starts += 1
        if not self._is_reply_open:
            self._last_frame_s = None
            self._has_sounded = False
        self._is_reply_open = True
        self._schedule("start", now)
        return effects

    def on_sentence_start(self, now: float) -> list[Effect]:
        """Only shown by the device; here it parts one sentence's frames from the next one's."""
        self._is_new_sentence = True
        return self.advance(now)

    def on_tts_stop(self, now: float) -> list[Effect]:
        effects = self.advance(now)
        self.counters.tts_stops += 1
        self._is_reply_open = self._is_aborting = False
        self._schedule("stop", now)
        return effects

    def on_audio(self, packet: bytes, now: float) -> list[Effect]:
        effects = self.advance(now)
        self._count_arrival(now)
        if self.state is not State.SPEAKING:
            self.counters.outside_frames += 1
            self.counters.early_frames += self._is_reply_open
        elif not self.speaker.has_room:
            self.counters.overflow_frames += 1
        else:
            effects += self._played(self.speaker.push(packet, now))
        return effects

    def advance(self, now: float) -> list[Effect]:
        """All that happens by itself up to `now`, in the order of time."""
        effects, self._owed = self._owed, []
        while (step := self._next_step()) is not None and step[0] <= now:
            at_s, kind = step
            effects += self._run(kind, at_s)
        return effects

    # Inside

    def _next_step(self) -> tuple[float, str] | None:
        steps = (
            (self.speaker.sounding_until_s, "sound"),
            (self._due_pass_s(), "pass"),
            (self._mic_next_s, "mic"),
        )
        return min(((at_s, kind) for at_s, kind in steps if at_s is not None), default=None)

    def _run(self, kind: str, at_s: float) -> list[Effect]:
        if kind == "sound":
            return self._next_packet(at_s)
        if kind == "pass":
            return self._main_loop_pass(at_s)
        self._mic_next_s = at_s + self.profile.mic_frame_s
        self.counters.uplink_frames += 1
        return [Capture()]

    def _next_packet(self, at_s: float) -> list[Effect]:
        effects = self._played(self.speaker.step())
        if self.speaker.is_silent and self._is_start_deferred:
            return self._begin_listening(at_s)
        return effects

    def _played(self, begun: Play | None) -> list[Effect]:
        if begun is None:
            return []
        self.counters.played_frames += 1
        self._has_sounded = True
        return [begun]

    def _due_pass_s(self) -> float | None:
        return None if self.state is State.CONNECTING else self._pass_s

    def _schedule(self, message: str, now: float) -> None:
        self._scheduled.append(message)
        if self._pass_s is None:
            self._pass_s = now + self.profile.main_loop_s

    def _main_loop_pass(self, at_s: float) -> list[Effect]:
        self._pass_s = None
        messages, self._scheduled = self._scheduled, []
        has_changed = False
        for message in messages:
            target = self._target(message)
            if target is not None:
                self._change(target)
                has_changed = True
        return self._enter(at_s) if has_changed else []

    def _target(self, message: str) -> State | None:
        """The state that a tts message leads to; None = it changes nothing."""
        if message == "start":
            return None if self.state is State.SPEAKING else State.SPEAKING
        if self.state is not State.SPEAKING:
            return None
        return State.IDLE if self.mode == "manual" else State.LISTENING

    def _enter(self, at_s: float) -> list[Effect]:
        if self.state is State.LISTENING:
            return self._enter_listening(at_s)
        if self.state is State.SPEAKING:
            self.counters.cleared_frames += self.speaker.clear()
        if self.state is State.IDLE or self.mode != "realtime":
            self._mic_next_s = None
        return []

    def _enter_listening(self, at_s: float) -> list[Effect]:
        if self.is_mic_on:
            return []
        if self.mode == "auto" and self.profile.plays_out and not self.speaker.is_silent:
            self._is_start_deferred = True
            return []
        return self._begin_listening(at_s)

    def _begin_listening(self, at_s: float) -> list[Effect]:
        self._is_start_deferred = False
        if not self.is_mic_on:
            self.counters.cleared_frames += self.speaker.clear()
            self._mic_next_s = at_s + self.profile.mic_warm_up_s
        return [SendStart(self.mode)]

    def _change(self, state: State) -> None:
        self._is_start_deferred = False
        self.state = state

    def _act(self, action: Action, now: float) -> list[Effect]:
        effects = self.advance(now)
        if self.state not in ALLOWED[action]:
            self._owed = effects
            raise TransitionError(f"{action} is not possible in {self.state}")
        return effects

    def _send_abort(self, reason: str | None) -> list[Effect]:
        self.counters.aborts += 1
        self._is_aborting = True
        return [SendAbort(reason)]

    def _count_arrival(self, now: float) -> None:
        self.counters.frames += 1
        self.counters.after_abort_frames += self._is_aborting
        if self._is_reply_open:
            self._count_lateness(now)
        elif self.counters.tts_stops:
            self.counters.stale_frames += 1

    def _count_lateness(self, now: float) -> None:
        """Judged between two frames of one reply; between two sentences a gap is the reply's, not the way's."""
        previous_s, self._last_frame_s = self._last_frame_s, now
        is_new_sentence, self._is_new_sentence = self._is_new_sentence, False
        is_dry = self._has_sounded and self.speaker.is_silent
        if is_new_sentence:
            self.counters.pauses += is_dry
            return
        self.counters.underruns += is_dry
        if previous_s is not None:
            self.counters.late_frames += now - previous_s > self.speaker.frame_s + self.profile.late_after_s
