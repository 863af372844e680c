"""How far a changed setting reaches: which programs use it, and which of them can take it over while they run. Pure.

Rules
- A setting is named by its path in Settings, such as "session.prompt"; people are shown the key of the file.
- A section that is not listed here concerns every program, and takes a restart.
- `cluster.counts` concern no process but how many there are; the other addresses and directories of `cluster` are fixed
  for the life of the whole cluster. The limits of recycling are read by `xiaozhi up` itself, at every new epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel

from shared.config.keys import SETTINGS
from shared.settings import Settings

PROGRAMS = ("session", "asr", "tts", "router", "web")

USED_BY: Mapping[str, frozenset[str]] = {
    "asr": frozenset({"asr"}),
    "tts": frozenset({"tts"}),
    "voiceprint": frozenset({"asr", "session"}),
    "session": frozenset({"session"}),
    "session.vision_url": frozenset({"session", "web"}),
    "router": frozenset({"router"}),
    "auth": frozenset({"router", "web"}),
    "web": frozenset({"web"}),
    "cluster": frozenset(),
    "cluster.router_endpoints": frozenset({"session", "asr", "tts"}),
    "cluster.link_bind": frozenset({"router"}),
    "cluster.metrics_host": frozenset({"session", "asr", "tts", "router", "web"}),
    "cluster.advertised_host": frozenset({"session", "asr", "tts", "router", "web"}),
}
"""Section, or one setting of it, → programs that read it."""

LIVE: Mapping[str, frozenset[str]] = {
    "session": frozenset(
        {
            "session.prompt",
            "session.exit_commands",
            "session.wakeup_words",
            "session.enable_greeting",
            "session.system_error_response",
            "session.tool_call_timeout_s",
            "session.llm_first_token_timeout_s",
        }
    ),
    "router": frozenset(
        {
            "router.hello_timeout_s",
            "router.no_voice_close_s",
            "router.idle_grace_s",
            "router.end_prompt_enabled",
            "router.end_prompt",
            "router.interruption",
            "router.vad",
            "router.lead_frames",
            "router.device_buffer_frames",
            "router.reply_timeout_s",
            "router.final_timeout_s",
            "router.segment_timeout_s",
            "router.first_frame_timeout_s",
            "router.next_frame_timeout_s",
        }
    ),
}
"""Program → settings it takes over while it runs: sessions between two turns, routers at a device's next connection."""

FIXED = frozenset(f"cluster.{name}" for name in ("host", "ws_port", "http_port", "metrics_port", "data_dir", "run_dir"))
"""Fixed for the life of the whole cluster."""
COUNTS = "cluster.counts."

_KEY_OF = {target: key for key, targets in SETTINGS.items() for target in targets}


def changed(old: Settings, new: Settings) -> list[str]:
    """Paths whose values differ; the epoch is not one."""
    return [path for path in _differences(old, new, "") if path != "epoch"]


def users_of(path: str) -> frozenset[str]:
    """Programs that read the setting."""
    section = path.partition(".")[0]
    return USED_BY.get(path, USED_BY.get(section, frozenset(PROGRAMS)))


def is_live(program: str, path: str) -> bool:
    return path in LIVE.get(program, frozenset())


def waits_for_restart(program: str, paths: list[str]) -> list[str]:
    """Of these, what the program reads only when it starts."""
    return [path for path in paths if program in users_of(path) and not is_live(program, path)]


def taken_over(program: str, old: Settings, new: Settings) -> Settings:
    """What a running process of `program` goes on with: `old` with the settings it can take over from `new`.

    It runs the new epoch only if that is everything that concerns it.
    """
    paths = changed(old, new)
    settings = old
    for path in paths:
        if is_live(program, path):
            settings = _with(settings, path, _value(new, path))
    epoch = old.epoch if waits_for_restart(program, paths) else new.epoch
    return settings.model_copy(update={"epoch": epoch})


def key_of(path: str) -> str:
    """The key of the configuration file, for people."""
    return _KEY_OF.get(path, path)


def _differences(old: BaseModel, new: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        is_section = prefix in ("", "cluster.") and isinstance(before, BaseModel)
        yield from _differences(before, after, f"{prefix}{name}.") if is_section else (f"{prefix}{name}",)


def _value(settings: Settings, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(settings, section), name)


def _with(settings: Settings, path: str, value: object) -> Settings:
    section, _, name = path.partition(".")
    changed_section = cast(BaseModel, getattr(settings, section)).model_copy(update={name: value})
    return settings.model_copy(update={section: changed_section})
