"""What a device says of itself when it asks for its settings. Read leniently: only the two ids are needed.

Clients differ: the firmware sends its whole system information, others `{application, board}` only, some nothing.
Whatever is missing or of another type is replaced by a default, because a device without an answer falls back to
another server's MQTT. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.identity.auth import clean_client_id, clean_device_id

MODEL_HEADERS = ("device-model", "device_model", "model")
VERSION_HEADERS = ("device-version", "device_version", "firmware-version", "app-version", "application-version")
MAX_TEXT_CHARS = 64
UNKNOWN_MODEL = "default"
UNKNOWN_VERSION = "0.0.0"


@dataclass(frozen=True, slots=True)
class Ids:
    device: str
    client: str


@dataclass(frozen=True, slots=True)
class Build:
    """Which firmware runs on which board."""

    model: str
    version: str


def read_ids(headers: Mapping[str, str]) -> Ids | None:
    """None if one of them is missing or unusable."""
    device, client = clean_device_id(headers.get("device-id")), clean_client_id(headers.get("client-id"))
    return None if device is None or client is None else Ids(device, client)


def read_body(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, {} for an empty one; None if it is something else."""
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def read_build(headers: Mapping[str, str], body: dict[str, Any]) -> Build:
    model = _header(headers, MODEL_HEADERS) or _text(body, "board", "type") or _text(body, "model")
    version = _header(headers, VERSION_HEADERS) or _text(body, "application", "version")
    return Build(model or UNKNOWN_MODEL, version or UNKNOWN_VERSION)


def _header(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((found for name in names if (found := _clean(headers.get(name)))), "")


def _text(body: Any, *path: str) -> str:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return _clean(body)


def _clean(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= MAX_TEXT_CHARS and text.isprintable() else ""
