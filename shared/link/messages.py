"""Every body that travels on a link, one dataclass each, with the direction and the rule in its docstring.

Encoding is a msgpack map without the None values; decoding validates types once, at the edge, and ignores unknown
keys. EVENT bodies carry their dataclass's `name` under the key `name`. Times are in ms, positions in frames.

Positions (asr): frames of an ear's uplink are numbered from 0 for the ear's life. A position p in an event means
"decided after looking at the frames before p", so positions at or below one already acted on can be ignored after a
replay. `OpenAsr.position` is the number of the first frame that this stream will carry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from shared.errors import WorkerProtocolError
from shared.link.envelope import pack_map, unpack_map
from shared.listening import Interruption, Mode, VadProfile

InputSource = Literal["asr", "text", "greeting", "farewell"]
Outcome = Literal["complete", "interrupted", "failed", "empty"]


Count = Annotated[int, Field(ge=0, lt=2**53)]
Streams = Annotated[int, Field(ge=0, le=100_000)]
Milliseconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=253)]
"""As long as a host name may be."""

_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    # Not functools.cache: building one takes milliseconds, and mypy does not take a class for Hashable.
    adapter = _adapters.get(cls)
    if adapter is None:
        adapter = _adapters[cls] = TypeAdapter(cls)
    return adapter


class Body:
    """Base of all bodies: symmetrical to_map / from_map and pack / unpack."""

    __slots__ = ()
    name: ClassVar[str] = ""

    def to_map(self) -> dict[str, Any]:
        body: dict[str, Any] = _adapter(type(self)).dump_python(self, exclude_none=True)
        if self.name:
            body["name"] = self.name
        return body

    @classmethod
    def from_map(cls, body: dict[str, Any]) -> Self:
        """Raises WorkerProtocolError if a key is missing or of the wrong type."""
        try:
            value: Self = _adapter(cls).validate_python(body)
        except ValidationError as error:
            raise WorkerProtocolError(f"{cls.__name__}: {error.error_count()} bad keys", code="bad_body") from error
        return value

    def pack(self) -> bytes:
        return pack_map(self.to_map())

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls.from_map(unpack_map(raw))


# Membership


@dataclass(frozen=True, slots=True)
class Ping(Body):
    """router → worker. A new `router_boot` makes the worker drop that router's old streams."""

    router_boot: str


@dataclass(frozen=True, slots=True)
class Beat(Body):
    """worker → router, every 500 ms and at once on change. The first one is the join. Absurd numbers are refused."""

    role: Literal["asr", "tts", "session"]
    incarnation: Name
    slot: Annotated[int, Field(ge=0, lt=1_000)]
    capacity: Streams
    active: Streams
    draining: bool
    lag_ms: Milliseconds
    stalled_ms: Milliseconds
    epoch: Count
    proto: Count
    pid: Count
    host: Name
    metrics_port: Annotated[int, Field(ge=0, le=65_535)]
    caps: dict[str, Any] = field(default_factory=dict)
    opened: Count = 0
    """OPENs received from this router on this identity: tells it which of its own are counted in `active`."""


# Streams, all roles


@dataclass(frozen=True, slots=True)
class Abort(Body):
    """router → worker. The job is dead; answer with DONE{aborted} and send nothing else."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done(Body):
    """worker → router. The stream ended well (or was aborted). `stats` are numbers for metrics, never text."""

    aborted: bool = False
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Error(Body):
    """worker → router. The stream failed; `load` is the worker's active count (for code "full")."""

    code: str
    retryable: bool = False
    load: int = 0
    message: str = ""


# asr


@dataclass(frozen=True, slots=True)
class OpenAsr(Body):
    """router → asr. One listening ear; utterances follow each other on it until END.

    In manual mode the whole stream is one utterance, ended by END only. END always yields a Final for an utterance that
    has begun (in manual mode: always), then DONE.
    """

    session: str
    mode: Mode
    position: int
    utterance: int
    """Number of the first utterance heard on this stream; counts up from there."""
    format: Literal["opus", "pcm"] = "opus"
    sample_rate: int = 16_000
    """Of pcm only: s16le mono. Opus is decoded straight to 16 kHz."""
    frame_ms: int = 60
    vad: VadProfile = field(default_factory=VadProfile)
    engine: str | None = None
    """Section name of the engine; None = the worker's default."""
    language: str | None = None


@dataclass(frozen=True, slots=True)
class AsrCredit(Body):
    """asr → router (CREDIT). Frames before `acked` are processed; frames before `trim` are needed no more.

    `trim` follows the start of the pre-roll in silence, stays at the utterance's first frame (pre-roll included) while
    one is open, and jumps behind it at its Final.
    """

    acked: int
    trim: int


@dataclass(frozen=True, slots=True)
class SpeechStart(Body):
    """asr → router (EVENT). An utterance has begun: min_speech_ms of voice."""

    name: ClassVar[str] = "speech_start"
    position: int
    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechHeld(Body):
    """asr → router (EVENT), once per utterance: it holds at least 400 ms of voiced audio, so it is no cough."""

    name: ClassVar[str] = "speech_held"
    position: int
    utterance: int


@dataclass(frozen=True, slots=True)
class Partial(Body):
    """asr → router (EVENT). What is recognised so far; sent on change, only when not empty."""

    name: ClassVar[str] = "partial"
    position: int
    utterance: int
    text: str


@dataclass(frozen=True, slots=True)
class SpeechEnd(Body):
    """asr → router (EVENT). Endpointing has decided that the utterance is over; its Final follows."""

    name: ClassVar[str] = "speech_end"
    position: int
    utterance: int
    speech_ms: int


@dataclass(frozen=True, slots=True)
class Final(Body):
    """asr → router (EVENT), exactly one per SpeechStart (and one in manual mode always). `text` may be empty."""

    name: ClassVar[str] = "final"
    position: int
    utterance: int
    text: str
    speech_ms: int
    engine_ms: float
    """From end of speech to the text."""
    language: str | None = None
    speaker: str | None = None
    """Who said it, by voiceprint; None = not known."""


# tts


@dataclass(frozen=True, slots=True)
class OpenTts(Body):
    """router → tts. One segment to be spoken: AUDIO (Opus 24 kHz mono 60 ms, encoder fresh, last frame padded)…, DONE.

    DONE.stats: frames, audio_ms, synth_ms, first_frame_ms, cached (bool), deterministic (bool).
    """

    session: str
    turn: str
    """Jobs of one turn share it."""
    segment: int
    text: str
    voice: str | None = None
    language: str | None = None
    """BCP 47 primary tag such as "en" or "zh"; None = guess from the text."""
    engine: str | None = None
    window_frames: int = 256
    """How many frames may be sent before CREDIT adds more."""
    dry_ms: int = 0
    """In how many ms the device runs out of sound; jobs are served in that order."""
    skip_frames: int = 0
    """Frames already played, of a deterministic engine's re-issued segment: not sent again."""


@dataclass(frozen=True, slots=True)
class Substituted(Body):
    """tts → router (EVENT), before any AUDIO: the engine has failed and another one is asked for the whole segment.

    Its first frame has its own time, and if the segment is re-issued, no frames may be skipped: they were another's.
    """

    name: ClassVar[str] = "substituted"
    engine: str
    """Section name of the one that is asked now."""


@dataclass(frozen=True, slots=True)
class TtsCredit(Body):
    """router → tts (CREDIT). So many frames more."""

    frames: int


# session, router → worker


@dataclass(frozen=True, slots=True)
class Input(Body):
    """router → session (EVENT). A turn begins. Answered by segments and one ReplyEnd of the same generation.

    `farewell`: the device has been silent too long; say goodbye (text = the configured end prompt), then CloseAfter.
    """

    name: ClassVar[str] = "input"
    gen: int
    text: str
    source: InputSource
    mode: Mode = "auto"
    language: str | None = None
    speaker: str | None = None
    """Who said it, by voiceprint; None = not known."""


@dataclass(frozen=True, slots=True)
class OpenSession(Body):
    """router → session. The conversation of one device connection; ends with END (commit, then DONE).

    The newest connection of a device wins: the session of an older one is ended with ERROR{superseded}.
    """

    session: str
    device: str
    client: str = ""
    address: str = ""
    features: dict[str, Any] = field(default_factory=dict)
    resume: Input | None = None
    """Set when an earlier worker died in this turn and nothing of it was heard: ask again."""
    epoch: int = 0
    """What an earlier worker has claimed for this connection; 0 = the connection is new and may claim the device from
    any other. Else it may go on only if nobody else has claimed the device since."""
    life: int = 0
    """Counts the workers that this connection's session has come to. Of two claims for one connection the later life's
    is good, in whatever order the store sees them."""


@dataclass(frozen=True, slots=True)
class TurnOver(Body):
    """router → session (EVENT), exactly once per turn, at `tts stop`: the commit point.

    The person heard segments 0 … played_segments-1 whole and the fraction `played_part` of the next one. An
    interrupted turn's work (LLM, tools) is cancelled when this arrives.
    """

    name: ClassVar[str] = "turn_over"
    gen: int
    outcome: Outcome
    reason: str
    played_segments: int
    played_part: float = 0.0


@dataclass(frozen=True, slots=True)
class Adopt(Body):
    """router → session (EVENT). The record of a turn that is over and whose own worker is gone: commit it.

    Sent instead of TurnOver to a worker that was never told the input, and again after OPEN for each turn whose
    `Committed` has not come. Known (session, gen) are ignored, so it may come twice.
    """

    name: ClassVar[str] = "adopt"
    input: Input
    over: TurnOver
    """What was heard counts positions in `segments`."""
    segments: list[str]
    """The spoken texts in order, those that nobody heard included."""
    is_complete: bool
    """No more text would have come."""


@dataclass(frozen=True, slots=True)
class FromDevice(Body):
    """router → session (EVENT). An `mcp` or `iot` message of the device, as parsed JSON."""

    name: ClassVar[str] = "from_device"
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EffectsOk(Body):
    """router → session (EVENT). The router remembers that this turn changes something: go on with tool `n`."""

    name: ClassVar[str] = "effects_ok"
    gen: int
    n: int


# session, worker → router


@dataclass(frozen=True, slots=True)
class Profile(Body):
    """session → router (EVENT), the first one: what this device's settings say. None = the router's own setting."""

    name: ClassVar[str] = "profile"
    vad: VadProfile | None = None
    interruption: Interruption | None = None
    asr_engine: str | None = None
    tts_engine: str | None = None
    voice: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed(Body):
    """session → router (EVENT). The device belongs to this session, under this epoch."""

    name: ClassVar[str] = "claimed"
    epoch: int


@dataclass(frozen=True, slots=True)
class Committed(Body):
    """session → router (EVENT). The turn is in the store: its record is needed no more."""

    name: ClassVar[str] = "committed"
    gen: int


@dataclass(frozen=True, slots=True)
class Segment(Body):
    """session → router (EVENT). The n-th piece of the reply, numbered from 0 within its generation.

    `text` is what is spoken, `display` what the device's screen shows (plain text, no Markdown, no emoji).
    """

    name: ClassVar[str] = "segment"
    gen: int
    n: int
    text: str
    display: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Emotion(Body):
    """session → router (EVENT), at most one per turn: the device's face. One of the 21 names."""

    name: ClassVar[str] = "emotion"
    gen: int
    emoji: str
    emotion: str


@dataclass(frozen=True, slots=True)
class ReplyEnd(Body):
    """session → router (EVENT). No more segments of this generation. `stats`: llm_first_ms, llm_ms, brain, tools."""

    name: ClassVar[str] = "reply_end"
    gen: int
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interrupt(Body):
    """session → router (EVENT). Stop speaking, if `gen` is still the one that speaks."""

    name: ClassVar[str] = "interrupt"
    gen: int


@dataclass(frozen=True, slots=True)
class CloseAfter(Body):
    """session → router (EVENT). Close the connection after this generation's `tts stop`; dies with the generation."""

    name: ClassVar[str] = "close_after"
    gen: int


@dataclass(frozen=True, slots=True)
class ToDevice(Body):
    """session → router (EVENT). A JSON message for the device (`mcp`, `iot`, `stt`, `alert`, `system`, `custom`)."""

    name: ClassVar[str] = "to_device"
    message: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Effects(Body):
    """session → router (EVENT). About to run tool `n` of this turn, which changes something: wait for EffectsOk."""

    name: ClassVar[str] = "effects"
    gen: int
    n: int
