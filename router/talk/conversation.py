"""One device connection as one pure object: an ear, a mouth, a session stream, and the few events that couple them.

| event | ear | mouth |
|---|---|---|
| `start` auto, realtime | arm if closed; reset if nothing was heard yet | untouched |
| `start` manual | new utterance | kill |
| `stop` | END; without audio no turn | – |
| `detect` + text | drop utterance and pre-roll | kill, new turn |
| `abort` | mouth not speaking: drop the utterance | kill; always answered by one `tts stop` |
| transcript | next utterance | kill by the interruption setting, new turn |
| speech began, confirmed | – | hold; kill by the interruption setting |
| `tts stop` sent | re-arm | silent |

The gateway feeds events with `now` and executes the returned effects in order; `next_due` says when to call `tick`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router import wire
from router.talk.deadlines import MouthTimeouts
from router.talk.ear import Ear, EarState, ListenProfile
from router.talk.ear import Outcome as EarOut
from router.talk.echo import is_echo
from router.talk.effects import CloseDevice, Count, Effect, SendText, StreamKey
from router.talk.flow_control import FlowControlConfig
from router.talk.heard import (
    HEARD,
    Heard,
    SpeechBegan,
    SpeechConfirmed,
    SpeechVanished,
    Transcript,
    UtteranceFailed,
)
from router.talk.mouth import Mouth, MouthState, Prompts
from router.talk.pacing import Pacer
from router.talk.session_stream import Caller, SessionStream
from router.talk.tongue import tongue_of, tongue_of_tag
from router.talk.turn import MouthOut, TurnEnded, adoption
from router.talk.worker_events import AsrEvent, decode_event
from shared.errors import WorkerProtocolError
from shared.ids import Role, WorkerId
from shared.link.messages import (
    AsrCredit,
    Body,
    Claimed,
    CloseAfter,
    Committed,
    Effects,
    EffectsOk,
    Emotion,
    Final,
    FromDevice,
    Input,
    InputSource,
    Interrupt,
    Partial,
    Profile,
    ReplyEnd,
    Segment,
    SpeechEnd,
    SpeechHeld,
    SpeechStart,
    Substituted,
    ToDevice,
)
from shared.listening import Interruption, Mode
from shared.settings import RouterSettings

PROFILE_WAIT_S = 1.5
"""How long the ear keeps frames while the device's profile is on its way."""

LISTENING_AUDIO_S = 5.0
"""A device that sent audio so recently is listening, and hears a farewell; any other is just closed."""

FAILED_TURNS = 2
"""So many failed turns in a row end the connection."""

MAX_RESUMES = 2
"""So often a turn is asked again with another session worker: one that kills them all is not asked for ever."""

BUSY = ("busy", "session_busy", "session_full", "tts_busy")
"""Why a turn failed if a pool had no room for it: said once, then the connection is closed."""

BUSY_CODE = SLOW_CODE = 1013
"""Try again later."""


@dataclass(slots=True)
class Conversation:
    caller: Caller
    settings: RouterSettings
    prompts: Prompts
    began_at: float
    ear: Ear = field(init=False)
    mouth: Mouth = field(init=False)
    session: SessionStream = field(init=False)
    mode: Mode = "auto"
    _hello: wire.Hello | None = None
    _profile_due: float | None = None
    _interruption: Interruption | None = None
    _failures: int = 0
    _active_at: float = 0.0
    _closing: bool = False
    _gone: bool = False
    """The device's socket is closed; what is left is to see its turns committed."""
    _leaving: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        settings = self.settings
        profile = ListenProfile(self.caller.session, settings.vad)
        self.ear = Ear(profile, final_timeout_s=settings.final_timeout_s)
        timeouts = MouthTimeouts(
            settings.reply_timeout_s,
            settings.segment_timeout_s,
            settings.first_frame_timeout_s,
            settings.next_frame_timeout_s,
        )
        flow = FlowControlConfig(capacity_frames=settings.device_buffer_frames, max_wait_s=settings.slow_close_s)
        pacer = Pacer(settings.lead_frames, flow)
        self.mouth = Mouth(self.caller.session, self.prompts, timeouts, pacer)
        self.session = SessionStream(self.caller)
        self._active_at = self.began_at

    def __repr__(self) -> str:
        return f"<Conversation {self.ear!r} {self.mouth!r}>"

    @property
    def phase(self) -> str:
        """For the sessions gauge: idle, listening, thinking, speaking."""
        if self.mouth.state != MouthState.SILENT:
            return "thinking" if self.mouth.state == MouthState.THINKING else "speaking"
        return "idle" if self.ear.state == EarState.CLOSED else "listening"

    # From the device

    def message(self, message: wire.Message, now: float) -> list[Effect]:
        """One parsed JSON message of the device."""
        match message:
            case wire.Hello():
                return self._on_hello(message, now)
            case wire.ListenStart(mode):
                return self._on_start(mode or self.mode, now)
            case wire.ListenStop():
                self._active_at = now
                return self._heard(self.ear.stop(now), now)
            case wire.Detect(text, mode):
                return self._on_detect(text, mode, now)
            case wire.AbortReply(reason):
                return self._on_abort(reason, now)
            case wire.ForSession(body):
                return [*self._ensure_session(), *self.session.tell(FromDevice(body))]
            case wire.PingText():
                self._active_at = now
                return []
            case wire.Echo():
                return []

    def audio(self, packet: bytes, now: float) -> list[Effect]:
        """One audio packet of the device, out of its framing."""
        duration_ms = self._duration_ms(packet)
        if duration_ms > 120.0:
            return [Count("bad_messages", "packet_too_long")]
        heard = self._heard(self.ear.audio(packet, duration_ms, now), now)
        # An ear that waits for its profile needs a session; one that hears silence does not.
        return heard if self.ear.ready or self.session.key is not None else self._ensure_session() + heard

    def _duration_ms(self, packet: bytes) -> float:
        if not packet:
            return 0.0
        hello = self._hello
        if hello is not None and hello.format == "pcm":
            return len(packet) * 500.0 / hello.sample_rate
        return wire.opus_ms(packet) or float(hello.frame_ms if hello else 60)

    def _on_hello(self, hello: wire.Hello, now: float) -> list[Effect]:
        out: list[Effect] = [SendText(wire.hello_reply(self.caller.session), bare=True)]
        if self._hello is not None:
            return out
        self._hello = hello
        self.session.features = hello.features
        profile = self.ear.profile
        profile.format, profile.sample_rate, profile.frame_ms = hello.format, hello.sample_rate, hello.frame_ms
        return [*out, *self._ensure_session(now)]

    def _on_start(self, mode: Mode, now: float) -> list[Effect]:
        self._active_at = now
        self.mode = mode
        out = self._ensure_session(now)
        if mode == "manual":
            out += self._spoken(self.mouth.kill("listen_start", now), now)
        return out + self._heard(self.ear.start(mode), now)

    def _on_detect(self, text: str, mode: Mode | None, now: float) -> list[Effect]:
        self._active_at = now
        self.mode = mode or self.mode
        out = self._ensure_session(now)
        out += self._heard(self.ear.drop(), now)
        if not text.strip():
            return out
        out += self._spoken(self.mouth.kill("detect", now), now)
        return out + self._begin(text, "text", shown=wire.displayed_transcript(text), now=now, ended_at=now)

    def _on_abort(self, reason: str, now: float) -> list[Effect]:
        self._active_at = now
        out: list[Effect] = []
        if self.mouth.state == MouthState.SILENT:
            out.append(SendText(wire.tts("stop")))
        if not self.mouth.speaks:
            out += self._heard(self.ear.drop(), now)
        # The kill goes first: nothing of the dead reply may leave while the rest is worked out.
        return self._spoken(self.mouth.kill(reason, now), now) + out

    def pong(self, token: int, now: float) -> list[Effect]:
        self.mouth.pong(token, now)
        return []

    def blocked(self, now: float) -> None:
        """The device's socket takes nothing: frames wait, and none is lost."""
        self.mouth.pacer.block(now)

    def unblocked(self, now: float) -> list[Effect]:
        """It takes something again: go on."""
        self.mouth.pacer.unblock()
        return self.tick(now)

    def closed(self, now: float) -> list[Effect]:
        """The connection is gone: end everything; the session worker commits."""
        self._closing = self._gone = True
        out = self._heard(self.ear.close(), now)
        out += self._spoken(self.mouth.kill("close", now), now)
        return out + self.session.end()

    def leave(self, code: int, reason: str, now: float) -> list[Effect]:
        """The router wants to go: close as soon as nobody speaks."""
        self._leaving = (code, reason)
        return self._leave_if_quiet()

    # From the workers

    def opened(self, key: StreamKey, worker: WorkerId, now: float, *, deterministic: bool = False) -> list[Effect]:
        match key.role:
            case Role.ASR:
                return self._heard(self.ear.opened(key, worker, now), now)
            case Role.TTS:
                self.mouth.opened(key, worker, now, deterministic=deterministic)
                return []
            case Role.SESSION:
                return self.session.opened(key)

    def stream_audio(self, key: StreamKey, packet: bytes, now: float) -> list[Effect]:
        return self._spoken(self.mouth.frame(key, packet, now), now)

    def stream_credit(self, key: StreamKey, body: dict[str, Any], now: float) -> list[Effect]:
        return self._heard(self.ear.credit(key, AsrCredit.from_map(body)), now)

    def stream_event(self, key: StreamKey, body: dict[str, Any], now: float) -> list[Effect]:
        """Raises WorkerProtocolError for a body that is not what its name promises."""
        event = decode_event(key.role, body)
        match event:
            case None:
                return [Count("unknown_events", key.role)]
            case SpeechStart() | SpeechHeld() | Partial() | SpeechEnd() | Final():
                return self._heard(self._asr_event(key, event, now), now)
            case Substituted():
                return self._spoken(self.mouth.substituted(key, now), now)
            case _ if key != self.session.key:
                return [Count("stale", "event")]
            case _:
                return self._session_event(event, now)

    def _asr_event(self, key: StreamKey, event: AsrEvent, now: float) -> EarOut:
        match event:
            case SpeechStart():
                return self.ear.speech_start(key, event.position, event.utterance)
            case SpeechHeld() | Partial():
                return self.ear.speech_goes_on(key, event.position)
            case SpeechEnd():
                return self.ear.speech_end(key, event.position, now)
            case Final():
                return self.ear.final(key, event, now)

    def _session_event(self, event: Body, now: float) -> list[Effect]:
        match event:
            case Profile():
                return self._on_profile(event, now)
            case Claimed(epoch):
                self.session.epoch = epoch
                return []
            case Committed(gen):
                self.session.committed(gen)
                return []
            case Segment():
                return self._spoken(self.mouth.segment(event, now), now)
            case Emotion():
                return self._spoken(self.mouth.emotion(event), now)
            case ReplyEnd():
                return self._spoken(self.mouth.reply_end(event.gen, event.stats, now), now)
            case Interrupt():
                return self._on_interrupt(event.gen, now)
            case CloseAfter():
                self.mouth.close_after(event.gen)
                return []
            case ToDevice():
                return self._on_to_device(event.message)
            case Effects():
                return self._on_effects(event)
            case _:
                return [Count("unknown_events", Role.SESSION)]

    def stream_done(self, key: StreamKey, now: float) -> list[Effect]:
        match key.role:
            case Role.ASR:
                return self._heard(self.ear.done(key), now)
            case Role.TTS:
                return self._spoken(self.mouth.job_done(key, now), now)
            case Role.SESSION:
                # A worker that has answered END did what it could: then nobody else is sought.
                return self._session_lost(key, "drained", retryable=not self._gone, worker=None, now=now)

    def stream_lost(
        self, key: StreamKey, cause: str, *, retryable: bool, worker: WorkerId | None, now: float
    ) -> list[Effect]:
        match key.role:
            case Role.ASR:
                return self._heard(self.ear.lost(key, cause, retryable=retryable, worker=worker), now)
            case Role.TTS:
                lost = self.mouth.job_lost(key, cause, retryable=retryable, worker=worker, now=now)
                return self._spoken(lost, now)
            case Role.SESSION:
                return self._session_lost(key, cause, retryable=retryable, worker=worker, now=now)

    def stream_draining(self, key: StreamKey, now: float) -> list[Effect]:
        """A worker says that it will go. Ears move at once, sessions at the turn's end; a segment is let finish."""
        match key.role:
            case Role.ASR:
                return self._heard(self.ear.draining(key), now)
            case Role.TTS:
                return []
            case Role.SESSION:
                self.session.is_leaving = key == self.session.key
                return self._move_session_if_quiet()

    def _move_session_if_quiet(self) -> list[Effect]:
        return self.session.move() if self.mouth.state == MouthState.SILENT else []

    # Time

    def next_due(self, now: float) -> float | None:
        if self._closing:
            return None
        slow_at = self.mouth.pacer.slow_at
        due = [self.ear.next_due(), self.mouth.next_due(now), self._profile_due, self._idle_due(), slow_at]
        return min((at for at in due if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        if self._closing:
            return []
        slow_at = self.mouth.pacer.slow_at
        if slow_at is not None and now >= slow_at:
            return self._close(SLOW_CODE, "slow_device")
        out = self._spoken(self.mouth.tick(now), now)
        out += self._heard(self.ear.tick(now), now)
        if self._profile_due is not None and now >= self._profile_due:
            out += [Count("profile_timeouts"), *self._profile_known(now)]
        due = self._idle_due()
        if due is not None and now >= due:
            out += self._idle(now)
        return out

    def _idle_due(self) -> float | None:
        if self._hello is None and self.ear.state == EarState.CLOSED:
            return self.began_at + self.settings.hello_timeout_s
        if self.mouth.state != MouthState.SILENT or self.ear.state in (EarState.HEARING, EarState.DECIDING):
            return None
        wait_s = self.settings.no_voice_close_s
        if not self._listens(self._active_at + wait_s):
            wait_s += self.settings.idle_grace_s
        return self._active_at + wait_s

    def _listens(self, now: float) -> bool:
        return self.ear.state == EarState.ARMED and self.ear.last_audio_at >= now - LISTENING_AUDIO_S

    def _idle(self, now: float) -> list[Effect]:
        if self._hello is None and self.ear.state == EarState.CLOSED:
            return self._close(1000, "no_hello")
        if now >= self._active_at + self.settings.no_voice_close_s + self.settings.idle_grace_s:
            return self._close(1000, "idle")
        if not self.settings.end_prompt_enabled:
            return self._close(1000, "no_voice")
        out = self._begin(self.settings.end_prompt, "farewell", shown=None, now=now, ended_at=now)
        if self.mouth.turn is not None:
            self.mouth.turn.close_after = True
        return out

    # What the ear heard

    def _heard(self, outcome: EarOut, now: float) -> list[Effect]:
        out: list[Effect] = []
        for item in outcome:
            if isinstance(item, HEARD):
                out += self._on_heard(item, now)
            else:
                out.append(item)
        return out

    def _on_heard(self, heard: Heard, now: float) -> list[Effect]:
        match heard:
            case SpeechBegan():
                self._active_at = now
                if self._barge_in() == "vad":
                    self.mouth.hold(now)
                # Words will follow: a session that was lost in silence is looked for while they are spoken.
                return self._ensure_session()
            case SpeechConfirmed():
                if self._barge_in() == "vad" and self.mouth.speaks:
                    return self._spoken(self.mouth.kill("barge_in", now), now)
                return []
            case SpeechVanished():
                self.mouth.resume()
                return [Count("empty_transcripts")]
            case Transcript():
                return self._on_transcript(heard, now)
            case UtteranceFailed(reason):
                return self._on_failed(reason, now)

    def _barge_in(self) -> Interruption:
        """How speech ends a reply of this device, now."""
        if self._interruption is not None:
            return self._interruption
        if self.settings.interruption is not None:
            return self.settings.interruption
        # With echo cancelled on the server only, the device's own voice is still in its microphone.
        return "vad" if self.mode == "realtime" and not self.session.features.get("aec") else "transcript"

    def _on_transcript(self, heard: Transcript, now: float) -> list[Effect]:
        self._active_at = now
        self.mouth.resume()
        out: list[Effect] = []
        if self.mouth.state != MouthState.SILENT:
            if self.mouth.speaks and is_echo(heard.text, self.mouth.spoken_text):
                return [Count("self_echoes")]
            if self._barge_in() == "off" and heard.mode != "manual":
                return [Count("ignored_transcripts")]
            out += self._spoken(self.mouth.kill("barge_in", now), now)
        shown = wire.displayed_transcript(heard.text)
        out += self._begin(
            heard.text,
            "asr",
            shown=shown,
            now=now,
            ended_at=heard.ended_at,
            language=heard.language,
            mode=heard.mode,
            speaker=heard.speaker,
        )
        if self.mouth.turn is not None:
            self.mouth.turn.asr = {"speech_ms": heard.speech_ms, "asr_ms": round(heard.engine_ms)}
        return out

    def _on_failed(self, reason: str, now: float) -> list[Effect]:
        out: list[Effect] = [Count("utterances_failed", reason)]
        if self.mouth.state != MouthState.SILENT:
            return out
        if self._closing:
            return out
        out += self._begin("", "asr", shown=None, now=now, ended_at=now, tell=False)
        prompt = "busy" if reason in ("busy", "no_worker") else "apology"
        return out + self._spoken(self.mouth.apologise(reason, now, prompt=prompt), now)

    # Turns

    def _begin(
        self,
        text: str,
        source: InputSource,
        *,
        shown: str | None,
        now: float,
        ended_at: float,
        language: str | None = None,
        mode: Mode | None = None,
        speaker: str | None = None,
        tell: bool = True,
    ) -> list[Effect]:
        if self._closing:
            return []
        if text and source != "farewell":
            self.mouth.language = tongue_of(text, self.mouth.language)
        gen = self.mouth.next_generation()
        turn_input = Input(gen, text, source, mode or self.mode, language, speaker)
        out = self._spoken(self.mouth.begin(turn_input, shown=shown, now=now, ended_at=ended_at), now)
        if not tell:
            return out
        if self.mouth.turn is not None:
            self.mouth.turn.told = True
        return [*out, *self._ensure_session(), *self.session.tell(turn_input)]

    def _spoken(self, outcome: MouthOut, now: float) -> list[Effect]:
        out: list[Effect] = []
        for item in outcome:
            if isinstance(item, TurnEnded):
                out += self._turn_ended(item, now)
            else:
                out.append(item)
        return out

    def _turn_ended(self, ended: TurnEnded, now: float) -> list[Effect]:
        over, turn = ended.turn_over, ended.turn
        self._active_at = now
        out: list[Effect] = [Count("turns", over.outcome)]
        if turn.told:
            out += self.session.turn_over(adoption(turn, over))
        self.ear.rearm()
        self._failures = self._failures + 1 if over.outcome == "failed" else 0
        if turn.close_after and over.outcome != "interrupted":
            out += self._close(1000, "goodbye")
        elif turn.apology in BUSY:
            out += self._close(BUSY_CODE, "busy")
        elif self._failures >= FAILED_TURNS:
            out += self._close(BUSY_CODE, "failed_turns")
        return [*out, *self._move_session_if_quiet(), *self._leave_if_quiet()]

    def _leave_if_quiet(self) -> list[Effect]:
        quiet = self.mouth.state == MouthState.SILENT and self.ear.state in (EarState.CLOSED, EarState.ARMED)
        if self._leaving is None or not quiet:
            return []
        return self._close(*self._leaving)

    def _close(self, code: int, reason: str) -> list[Effect]:
        if self._closing:
            return []
        self._closing = True
        return [CloseDevice(code, reason)]

    # The session stream

    def _ensure_session(self, now: float | None = None) -> list[Effect]:
        if self.session.key is not None or self._closing:
            return []
        if now is not None and not self.ear.ready:
            self._profile_due = now + PROFILE_WAIT_S
        return [self.session.open()]

    def _session_lost(
        self, key: StreamKey, cause: str, *, retryable: bool, worker: WorkerId | None, now: float
    ) -> list[Effect]:
        if key != self.session.key:
            return []
        again = self.session.lose(cause, retryable=retryable)
        if self._gone:
            return self.session.salvage() if again else self.session.surrender()
        if self._closing:
            return []
        if cause == "superseded":
            return self._superseded(now)
        out, resume = self._rescue_turn(cause, now, again=again)
        if not again:
            return [*out, Count("session_failures", cause), *self._profile_known(now)]
        if resume is None and not self._needs_session():
            return [*out, Count("sessions_left_idle")]
        opened = self.session.open(exclude=frozenset({worker} if worker else ()), resume=resume, is_repin=True)
        return [Count("stream_retries", "session"), *out, opened]

    def _superseded(self, now: float) -> list[Effect]:
        """A newer connection of the device has its session: this one has nobody to talk to."""
        out = self._spoken(self.mouth.kill("superseded", now), now)
        return [*out, *self.session.surrender(), Count("superseded"), *self._close(1000, "superseded")]

    def _needs_session(self) -> bool:
        """Now, and not only at the device's next input: many may have been lost at once."""
        is_busy = self.mouth.state != MouthState.SILENT or self.ear.state in (EarState.HEARING, EarState.DECIDING)
        return is_busy or not self.ear.ready or self.session.has_waiting

    def _rescue_turn(self, cause: str, now: float, *, again: bool) -> tuple[list[Effect], Input | None]:
        """What becomes of the running turn without its session worker; an Input is to be asked again."""
        turn = self.mouth.turn
        if turn is None or not turn.told or turn.complete:
            return [], None
        if again and self.mouth.heard_nothing and not turn.effects and turn.resumes < MAX_RESUMES:
            turn.resumes += 1
            return self._spoken(self.mouth.begin_again(now), now), turn.input
        prompt = "busy" if cause in ("busy", "full", "no_worker") else "apology"
        return self._spoken(self.mouth.apologise(f"session_{cause}", now, prompt=prompt), now), None

    def _profile_known(self, now: float) -> list[Effect]:
        self._profile_due = None
        return self._heard(self.ear.profile_known(), now)

    def _on_profile(self, profile: Profile, now: float) -> list[Effect]:
        listen = self.ear.profile
        listen.vad = profile.vad or self.settings.vad
        listen.engine, listen.language = profile.asr_engine, profile.language
        if self.mouth.generation == 0:
            self.mouth.language = tongue_of_tag(profile.language, self.mouth.language)
        self._interruption = profile.interruption
        self.mouth.engine, self.mouth.voice = profile.tts_engine, profile.voice
        self.session.deaths = 0
        return self._profile_known(now)

    def _on_interrupt(self, gen: int, now: float) -> list[Effect]:
        if gen != self.mouth.generation:
            return [Count("stale", "interrupt")]
        return self._spoken(self.mouth.kill("session", now), now)

    def _on_effects(self, effects: Effects) -> list[Effect]:
        turn = self.mouth.turn
        if turn is None or turn.gen != effects.gen:
            # No answer: the tool of a dead turn does not run.
            return [Count("stale", "effects")]
        turn.effects.add(effects.n)
        return self.session.tell(EffectsOk(effects.gen, effects.n))

    def _on_to_device(self, message: dict[str, Any]) -> list[Effect]:
        kind = message.get("type")
        if kind not in wire.TO_DEVICE_TYPES:
            raise WorkerProtocolError("a session may not send this type to a device", code="bad_body")
        return [SendText(message, bare=kind == "mcp")]
