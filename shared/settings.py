"""What a process may know of its configuration: frozen, validated models. `shared.config.load` makes them.

Every time has its unit in its name. Defaults stand here once; config.yaml in this package repeats them for people, and
a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.listening import Interruption, VadProfile
from shared.voiceprint import Speaker, address_of, speakers_of

WAKEUP_WORDS = (
    "你好小智",
    "嘿你好呀",
    "你好小志",
    "小爱同学",
    "你好小鑫",
    "你好小新",
    "小美同学",
    "小龙小龙",
    "喵喵同学",
    "小滨小滨",
    "小冰小冰",
)
"""What today's devices are woken with; a `detect` with one of these is a greeting, not a question."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


class EngineChoice(Frozen):
    """One configured engine: its section's name, its type and its other keys as they stand in the file."""

    name: str
    type: str
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Holds upstream keys, so it is kept out of the repr."""


class Counts(Frozen):
    """How many processes `xiaozhi up` starts."""

    routers: int = Field(1, ge=0, le=10)
    """0 = a machine with workers only: no web process either."""
    asr: int = Field(2, ge=0, le=40)
    tts: int = Field(2, ge=0, le=40)
    session: int = Field(2, ge=0, le=40)


class ClusterSettings(Frozen):
    """Ports, directories and counts: XZ_* variables, else the `server` and `cluster` sections."""

    host: str = "0.0.0.0"
    ws_port: int = Field(8000, ge=1, le=65535)
    http_port: int = Field(8003, ge=1, le=65535)
    metrics_port: int = Field(9700, ge=1, le=65000)
    """Base; each process adds its own offset (see metrics_port_of)."""
    data_dir: Path = Path("data")
    run_dir: Path = Path("run")
    counts: Counts = Counts()
    router_endpoints: tuple[str, ...] = ()
    """Where workers find the routers: `local` (the sockets in run_dir), ipc://, tcp://HOST:PORT, file:// (a list that
    is read again when it changes). Empty = `local`."""
    link_bind: str = ""
    """tcp://ADDRESS:PORT where the routers also take workers of other machines; needs keys. Empty = nowhere."""
    metrics_host: Literal["127.0.0.1", "0.0.0.0", "::"] = "127.0.0.1"
    """Address of every process's metrics port: this machine only, or every one of its addresses."""
    advertised_host: str = ""
    """How other machines reach this one; empty = its host name."""
    recycle_after_h: float = Field(0.0, ge=0, le=8760)
    """A process that has run for so long is replaced, through a drain; 0 = never."""
    recycle_rss_mib: float = Field(0.0, ge=0)
    """So is one that holds more memory than this, with its children; 0 = never."""


class RouterSettings(Frozen):
    """The device side: sockets, ears, mouths."""

    ping_interval_s: float = Field(30.0, gt=0)
    dead_after_s: float = Field(90.0, gt=0)
    """Closed after so long without any traffic from the device, pongs included (today's server's #3348)."""
    close_timeout_s: float = Field(1.0, ge=0)
    hello_timeout_s: float = Field(30.0, gt=0)
    no_voice_close_s: float = Field(120.0, gt=0)
    """`close_connection_no_voice_time`: then the farewell; hard close `idle_grace_s` later."""
    idle_grace_s: float = Field(60.0, ge=0)
    end_prompt_enabled: bool = True
    end_prompt: str = ""
    interruption: Interruption | None = None
    """None = by mode: `vad` in realtime, `transcript` in auto."""
    vad: VadProfile = VadProfile()
    lead_frames: int = Field(3, ge=1, le=5)
    device_buffer_frames: int = Field(40, ge=5, le=1000)
    reply_timeout_s: float = Field(25.0, gt=0)
    """No progress for so long in a turn: apologise and `tts stop`."""
    final_timeout_s: float = Field(3.0, gt=0)
    segment_timeout_s: float = Field(15.0, gt=0)
    first_frame_timeout_s: float = Field(3.0, gt=0)
    next_frame_timeout_s: float = Field(2.0, gt=0)
    slow_close_s: float = Field(3.0, gt=0)
    """A device whose socket takes nothing for so long is let go."""
    max_devices: int = Field(2000, ge=1)
    """Connections of one router; who comes on top is refused before the upgrade."""
    connects_per_minute: int = Field(60, ge=1)
    """Of one device."""
    address_connections: int = Field(1000, ge=1)
    """From one address at once; this machine, trusted proxies and the MQTT gateway are exempt."""
    address_connects_per_minute: int = Field(1200, ge=1)


class AsrSettings(Frozen):
    engine: EngineChoice = EngineChoice(name="PocketSphinxASR", type="pocketsphinx")
    engines: dict[str, EngineChoice] = Field(default_factory=dict)
    """All configured sections, by name."""
    fallbacks: tuple[str, ...] = ()
    """Sections that are asked in this order when the default fails; `engines` holds them."""
    recognisers: int = Field(2, ge=1, le=64)
    """How many utterances one worker recognises at once, apart from engines with a number of their own."""
    capacity: int = Field(400, ge=1)
    """How many ears one worker listens to."""
    final_timeout_s: float = Field(3.0, gt=0)
    """From the end of speech to the text, by an engine that computes here."""
    upstream_timeout_s: float = Field(8.0, gt=0)
    """The same if a service outside is asked, with all that are asked after it."""
    max_models: int = Field(2, ge=1, le=64)
    """How many models of `whisper` and `sherpa` sections one worker holds; who wants one more has the idlest closed."""


class TtsSettings(Frozen):
    engine: EngineChoice = EngineChoice(name="EmbeddedTTS", type="embedded")
    engines: dict[str, EngineChoice] = Field(default_factory=dict)
    capacity: int = Field(64, ge=1)
    synth_threads: int = Field(1, ge=1, le=16)
    cache_bytes: int = Field(16 * 1024 * 1024, ge=0)
    opus_complexity: int = Field(5, ge=0, le=10)
    segment_timeout_s: float = Field(15.0, gt=0)
    """Of a segment as a whole, whichever engines are asked."""
    fallbacks: tuple[str, ...] = ()
    """Sections that are asked in this order when the default fails; `engines` holds them."""
    first_frame_timeout_s: float = Field(2.5, gt=0)
    """An engine that has given no frame by then is given up for the next one, if there is one."""


def chain_of(pool: AsrSettings | TtsSettings) -> tuple[EngineChoice, ...]:
    """The engine in use and those that take over from it, in order."""
    return (pool.engine, *(pool.engines[name] for name in pool.fallbacks if name in pool.engines))


class VoiceprintSettings(Frozen):
    """Who is known by voice; without a URL with a key, or without speakers, nobody is asked for."""

    url: str = Field("", repr=False)
    """Holds the server's key."""
    speakers: tuple[str, ...] = Field((), repr=False)
    """Each `id,name,description`."""
    similarity_threshold: float = Field(0.4, ge=0, le=1)
    max_wait_s: float = Field(0.5, ge=0, le=5)
    """How long a transcript waits for its speaker."""

    @property
    def known(self) -> tuple[Speaker, ...]:
        """Whose voices are told apart; empty if none is."""
        return speakers_of(self.speakers) if address_of(self.url) is not None else ()


class SessionSettings(Frozen):
    llm: EngineChoice | None = None
    """None = the offline brain alone."""
    engines: dict[str, EngineChoice] = Field(default_factory=dict)
    capacity: int = Field(400, ge=1)
    prompt: str = "You are Xiaozhi, a friendly voice assistant. Answer briefly, in the language you are spoken to."
    exit_commands: tuple[str, ...] = ("退出", "关闭", "exit", "quit")
    wakeup_words: tuple[str, ...] = WAKEUP_WORDS
    enable_greeting: bool = True
    system_error_response: str = "主人，小智现在有点忙，我们稍后再试吧。"
    timezone_offset_h: float = Field(8.0, ge=-12, le=14)
    resume_window_s: float = Field(300.0, ge=0)
    history_messages: int = Field(40, ge=2)
    intent: Literal["function_call", "nointent"] = "function_call"
    """`nointent`: the language model is offered no tools."""
    tool_call_timeout_s: float = Field(30.0, gt=0)
    llm_first_token_timeout_s: float = Field(10.0, gt=0)
    vision_url: str | None = None


class AuthSettings(Frozen):
    enabled: bool = True
    key: str = Field("", repr=False)
    """Never empty after loading: configured, or the created file's."""
    expire_s: int = Field(30 * 24 * 3600, gt=0)
    allowed_devices: tuple[str, ...] = ()
    enroll: Literal["lan", "allowlist", "activation", "open"] = "lan"
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()


class WebSettings(Frozen):
    websocket_url: str | None = None
    """None = made from the request's own Host."""
    mqtt_gateway: str | None = None
    mqtt_signature_key: str = Field("", repr=False)
    timezone_offset_h: float = Field(8.0, ge=-12, le=14)
    firmware_cache_s: float = Field(30.0, ge=0)
    admin_token: str = Field("", repr=False)
    """Empty = only the unix socket may ask."""


class LogSettings(Frozen):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["console", "json"] = "console"
    directory: Path | None = None
    """None = standard error only."""
    queue_lines: int = Field(10_000, ge=1)
    """Lines that wait for the writer thread; the ones that come when it is full are dropped and counted."""
    file_max_bytes: int = Field(10 * 1024 * 1024, ge=0)
    """A file in `directory` is rotated at this size; 0 = never."""
    file_backups: int = Field(5, ge=0)


class StoreSettings(Frozen):
    """What outlives a process: dialogues, memory, device facts, the outbox."""

    url: str = Field("", repr=False)
    """Empty = SQLite under data_dir. May hold a password."""
    pool_size: int = Field(3, ge=1, le=50)
    """PostgreSQL connections of one process; SQLite has one."""
    wait_s: float = Field(20.0, ge=0, le=3600)
    """How long a process that starts waits for tables that fit it."""
    history_days: int = Field(30, ge=0)
    """0 = for ever. So are devices that did not come back."""
    max_turns_per_device: int = Field(1000, ge=1)
    memory_days: int = Field(0, ge=0)
    """Since it changed; 0 = for ever."""
    outbox_days: int = Field(7, ge=1)
    outbox_attempts: int = Field(8, ge=1)
    """Then a parcel is dead."""
    sweep_interval_s: float = Field(3600.0, gt=0)


class Settings(Frozen):
    """Everything, validated whole, under one epoch."""

    epoch: int = 1
    cluster: ClusterSettings = ClusterSettings()
    router: RouterSettings = RouterSettings()
    asr: AsrSettings = AsrSettings()
    tts: TtsSettings = TtsSettings()
    voiceprint: VoiceprintSettings = VoiceprintSettings()
    session: SessionSettings = SessionSettings()
    auth: AuthSettings = AuthSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()


METRICS_OFFSETS = {"web": 0, "router": 10, "session": 20, "asr": 60, "tts": 100}
"""Offset of a program's slot 0 from the base port; web and router have 10 slots, the pools 40."""


def metrics_port_of(base: int, program: str, slot: int) -> int:
    """Metrics port of one process of `program` (a key of METRICS_OFFSETS)."""
    return base + METRICS_OFFSETS[program] + slot


def router_endpoint(run_dir: Path, slot: int, role: str) -> str:
    """ipc:// endpoint that router `slot` binds for the pool `role`. The path must stay under 107 bytes."""
    return f"ipc://{run_dir}/r{slot}-{role}"
