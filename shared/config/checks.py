"""Checks and spellings of single configuration keys that a setting's type cannot express."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from shared.link.tcp_address import LAST_LINK_PORT, is_tcp_address, is_tcp_peer
from shared.voiceprint import speaker_of

_LEVELS = {"TRACE": "DEBUG", "SUCCESS": "INFO", "WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR"}
"""Levels of loguru, which today's files may name, and the nearest one here."""


def normalised(key: str, value: Any) -> Any:
    """`value` with the spelling that its setting uses."""
    if value is False and key == "cluster.mouth.interruption":
        return "off"  # YAML reads a bare `off` as false
    if not isinstance(value, str):
        return value
    if key == "log.log_level":
        return _LEVELS.get(value.upper(), value.upper())
    if key in ("log.format", "server.auth.enroll", "cluster.mouth.interruption"):
        return value.lower()
    return value


def _url(*schemes: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        fits = isinstance(value, str) and value.startswith(tuple(f"{scheme}://" for scheme in schemes))
        return None if fits else "a URL that begins with " + " or ".join(f"{scheme}://" for scheme in schemes)

    return check


def _each(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    def check_list(value: Any) -> str | None:
        if not isinstance(value, list):
            return "a list, such as [a, b]"
        wanted = next((wanted for item in value if (wanted := check(item))), None)
        return wanted and f"a list, each entry {wanted}"

    return check_list


def _network(value: Any) -> str | None:
    try:
        ip_network(value if isinstance(value, str) else "?", strict=False)
    except ValueError:
        return "an address such as 10.0.0.5 or a network such as 10.0.0.0/8"
    return None


def _endpoint(value: Any) -> str | None:
    if value == "local" or (isinstance(value, str) and is_tcp_peer(value)) or _url("ipc", "file")(value) is None:
        return None
    return "local, tcp://HOST:PORT, ipc://PATH or file://PATH"


def _tcp_address(value: Any) -> str | None:
    fits = isinstance(value, str) and is_tcp_address(value)
    return None if fits else f"tcp://ADDRESS:PORT with a port up to {LAST_LINK_PORT}, an IPv6 address in brackets"


def _host(value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z:._-]{1,253}", value)
    return None if fits else "a host name or an address"


def _between(low: float, high: float, unit: str, *, whole: bool) -> Callable[[Any], str | None]:
    words = f"a {'whole ' if whole else ''}number of {unit} from {low:g} to {high:g}"

    def check(value: Any) -> str | None:
        if isinstance(value, bool):
            return words
        try:
            number = float(value)
        except (TypeError, ValueError):
            return words
        fits = low <= number <= high and (not whole or number == int(number))
        return None if fits else words

    return check


def _speaker(value: Any) -> str | None:
    fits = isinstance(value, str) and speaker_of(value) is not None
    return (
        None if fits else "an id, a name and a description with commas between, such as 'test1,Zhang San,a programmer'"
    )


def _interruption(value: Any) -> str | None:
    return None if value in ("off", "vad", "transcript") else "one of: off, vad, transcript"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "store.url": _url("sqlite", "postgresql", "postgres"),
    "server.websocket": _url("ws", "wss"),
    "server.vision_explain": _url("http", "https"),
    "server.allowed_origins": _each(_url("http", "https")),
    "server.trusted_proxies": _each(_network),
    "voiceprint.url": _url("http", "https"),
    "voiceprint.speakers": _each(_speaker),
    "cluster.router_endpoints": _each(_endpoint),
    "cluster.link_bind": _tcp_address,
    "cluster.advertised_host": _host,
    "cluster.mouth.interruption": _interruption,
    "VAD.threshold": _between(0, 1, "probability", whole=False),
    "VAD.threshold_low": _between(0, 1, "probability", whole=False),
    "VAD.min_silence_duration_ms": _between(50, 10_000, "milliseconds", whole=True),
    "VAD.min_speech_ms": _between(0, 5_000, "milliseconds", whole=True),
    "VAD.pre_roll_ms": _between(0, 5_000, "milliseconds", whole=True),
    "VAD.max_utterance_ms": _between(1_000, 300_000, "milliseconds", whole=True),
}
"""Key → what it should be, if the value is not that; None = fine. `VAD.` stands for the selected section."""
