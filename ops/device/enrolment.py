"""The first thing a device does after boot: it asks the OTA address where to talk to, and gets its token there.

`firmware` and `mqtt` sections are not followed; a section that would break a device is refused, because a simulator
that shrugs it off would hide it (78/xiaozhi-esp32, main/ota.cc and main/settings.cc).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from shared.errors import XiaozhiError

FIRMWARE_VERSION = "2.4.2"
_MAX_KEY_CHARS = 15


class DeviceError(XiaozhiError):
    """The server is not there, refuses, or does what a device cannot live with. `code` says which."""

    code = "device"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the device says it is."""

    device: str
    client: str = ""

    @property
    def client_id(self) -> str:
        """A UUID kept for the device's life, so that the server meets the same pair again."""
        return self.client or str(uuid.uuid5(uuid.NAMESPACE_URL, f"xiaozhi-simulator:{self.device}"))


def simulated_mac(seed: str, number: int = 0) -> str:
    """A locally administered address, the same for the same seed and number."""
    digest = hashlib.sha256(seed.encode()).digest()
    octets = (0x02, *digest[:3], (number >> 8) & 0xFF, number & 0xFF)
    return ":".join(f"{octet:02x}" for octet in octets)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the OTA answer says about the WebSocket. The token is no one's business but the server's."""

    url: str
    token: str = field(default="", repr=False)
    version: int | None = None


async def enrol(http: aiohttp.ClientSession, ota_url: str, identity: Identity, timeout_s: float = 10.0) -> Enrolment:
    """Ask as the firmware does; DeviceError if the answer does not lead to a conversation."""
    try:
        async with http.post(
            ota_url,
            data=json.dumps(_system_info(identity)),
            headers=_headers(identity),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            allow_redirects=False,
        ) as answer:
            return _read(answer.status, await answer.text())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise DeviceError(f"no OTA answer from {ota_url}: {_reason(error)}", code="ota_unreachable") from error


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _headers(identity: Identity) -> dict[str, str]:
    return {
        "Activation-Version": "1",
        "Device-Id": identity.device,
        "Client-Id": identity.client_id,
        "User-Agent": f"xiaozhi-simulator/{FIRMWARE_VERSION}",
        "Accept-Language": "en-US",
        "Content-Type": "application/json",
    }


def _system_info(identity: Identity) -> dict[str, Any]:
    return {
        "version": 2,
        "language": "en-US",
        "flash_size": 16777216,
        "minimum_free_heap_size": "8318916",
        "mac_address": identity.device,
        "uuid": identity.client_id,
        "chip_model_name": "esp32s3",
        "application": {"name": "xiaozhi", "version": FIRMWARE_VERSION},
        "board": {"type": "xiaozhi-simulator", "name": "xiaozhi-simulator", "mac": identity.device},
    }


def _read(status: int, text: str) -> Enrolment:
    if status != 200:
        raise DeviceError(f"the OTA address answered {status}; a device takes only 200", code="ota_status")
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise DeviceError("the OTA answer is not JSON", code="ota_format") from error
    if not isinstance(answer, dict):
        raise DeviceError("the OTA answer is not a JSON object", code="ota_format")
    _check_harmless(answer)
    section = answer.get("websocket")
    if not isinstance(section, dict) or not isinstance(section.get("url"), str):
        raise DeviceError(_why_no_address(answer), code="ota_no_websocket")
    version = section.get("version")
    return Enrolment(section["url"], str(section.get("token", "")), version if isinstance(version, int) else None)


def _check_harmless(answer: dict[str, Any]) -> None:
    """Raise for what puts real devices into a boot loop."""
    for name in ("websocket", "mqtt"):
        section = answer.get(name)
        for key in section if isinstance(section, dict) else ():
            if len(key) > _MAX_KEY_CHARS:
                raise DeviceError(f"OTA key {name}.{key} is longer than 15 characters: boot loop", code="ota_harmful")
    firmware = answer.get("firmware")
    if isinstance(firmware, dict) and isinstance(firmware.get("url"), str):
        version = firmware.get("version")
        if isinstance(version, str) and not re.fullmatch(r"\d+(\.\d+)*", version):
            raise DeviceError("OTA firmware.version is not digits and dots: boot loop", code="ota_harmful")


def _why_no_address(answer: dict[str, Any]) -> str:
    activation = answer.get("activation")
    if isinstance(activation, dict) and "code" in activation:
        return f"the server wants this device approved first: xiaozhi devices approve {activation['code']}"
    return "the OTA answer has no websocket section"
