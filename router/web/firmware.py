"""Firmware files that may be offered to a device, and which of them is newer than what it runs.

Files are `{model}_{version}.bin`. A version is digits and dots: the device feeds each part to std::stoi and catches
nothing, so "v1.2" or a part beyond 32 bits makes it reboot for ever (78/xiaozhi-esp32, main/ota.cc ParseVersion).
Versions compare part by part, and of two that agree the longer is newer, as in the device. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*", re.ASCII)
_FILE = re.compile(r"(?P<model>.+?)_(?P<version>[0-9][A-Za-z0-9.\-_]*)\.bin", re.ASCII)
_SAFE_NAME = re.compile(r"[A-Za-z0-9.\-_]+\.bin", re.ASCII)

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FirmwareFile:
    name: str
    model: str
    version_text: str
    version: Version


def parse_version(text: str) -> Version | None:
    """None unless the text is digits and dots, as the device needs it."""
    return tuple(int(part) for part in text.split(".")) if _VERSION.fullmatch(text) else None


def is_safe_name(name: str) -> bool:
    """Whether a file of this name may be served: no directories, nothing hidden."""
    return _SAFE_NAME.fullmatch(name) is not None and not name.startswith(".")


def parse_file(name: str) -> FirmwareFile | None:
    match = _FILE.fullmatch(name) if is_safe_name(name) else None
    version = parse_version(match["version"]) if match else None
    return FirmwareFile(name, match["model"], match["version"], version) if match and version else None


def find_newer(names: Iterable[str], model: str, running: Version) -> FirmwareFile | None:
    """The newest file for this model, if it is newer than `running`."""
    files = (found for found in map(parse_file, names) if found and found.model == model and found.version > running)
    return max(files, key=lambda found: found.version, default=None)
