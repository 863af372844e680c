"""The answer to a device's boot request, as the firmware can bear it.

Rules, from 78/xiaozhi-esp32 main/ota.cc, settings.cc and application.cc:
* Every key and string of `websocket` and `mqtt` is written to flash storage with ESP_ERROR_CHECK: a key of more than 15
  characters or a string of more than 3,999 bytes aborts the device, at every boot.
* An `mqtt` object, even an empty one, makes the device ignore `websocket`. It is there only if a gateway is configured.
* `firmware.version` is parsed without a catch; an empty `url` means "nothing to install".
* An absent `token` leaves the stored one alone, an empty one clears it.
* Any `code` in `activation` makes the device show and speak it; with a `challenge` it polls for the approval.

Pure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from router.web.caller import HostPort
from router.web.firmware import FirmwareFile, parse_version
from shared.identity.enrol import WaitingRequest

MAX_KEY_CHARS = 15
MAX_STRING_BYTES = 3999
WEBSOCKET_PATH = "/xiaozhi/v1/"
DOWNLOAD_PATH = "/xiaozhi/ota/download/"
VISION_PATH = "/mcp/vision/explain"
_MQTT_USERNAME = base64.b64encode(b'{"ip": "unknown"}').decode()


@dataclass(frozen=True, slots=True)
class MqttGateway:
    endpoint: str
    signature_key: str


def websocket_url(host: HostPort, ws_port: int, *, secure: bool = False) -> str:
    """Where the device finds the router: the host it called, on the router's port.

    Behind a proxy that ends TLS it is the proxy's own address: the router's port speaks no TLS.
    """
    return f"wss://{host}{WEBSOCKET_PATH}" if secure else f"ws://{host.name}:{ws_port}{WEBSOCKET_PATH}"


def download_url(host: HostPort, name: str, *, secure: bool = False, vision_url: str | None = None) -> str:
    """Where the device fetches a file: beside the configured vision address, else the host it called."""
    if vision_url and VISION_PATH in vision_url:
        return vision_url.replace(VISION_PATH, DOWNLOAD_PATH + name)
    return f"{'https' if secure else 'http'}://{host}{DOWNLOAD_PATH}{name}"


def time_section(now_s: float, offset_h: float) -> dict[str, Any]:
    """Milliseconds since 1970, and by how many minutes local time is ahead of UTC."""
    return {"timestamp": int(now_s * 1000), "timezone_offset": int(offset_h * 60)}


def echo_section(running: str) -> dict[str, Any] | None:
    """Nothing to install: the device's own version. None if even that would break it."""
    return {"version": running, "url": ""} if parse_version(running) else None


def upgrade_section(offered: FirmwareFile, url: str) -> dict[str, Any]:
    return {"version": offered.version_text, "url": url}


def websocket_section(url: str, token: str | None) -> dict[str, Any]:
    return {"url": url} if token is None else {"url": url, "token": token}


def mqtt_section(gateway: MqttGateway, device: str, model: str, *, trusted: bool | None) -> dict[str, Any]:
    """`trusted`: True = with the password, False = with an empty one, None = leave the stored one alone."""
    group = f"GID_{model}".replace(":", "_").replace(" ", "_")
    address = device.replace(":", "_")
    client_id = f"{group}@@@{address}@@@{address}"
    section = {"endpoint": gateway.endpoint, "client_id": client_id, "username": _MQTT_USERNAME}
    if trusted is not None:
        section["password"] = _mqtt_password(gateway.signature_key, client_id) if trusted else ""
    return section | {"publish_topic": "device-server", "subscribe_topic": f"devices/p2p/{address}"}


def _mqtt_password(key: str, client_id: str) -> str:
    if not key:
        return ""
    digest = hmac.new(key.encode(), f"{client_id}|{_MQTT_USERNAME}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def activation_section(request: WaitingRequest) -> dict[str, Any]:
    """The message is what the device's screen shows: the command that lets it in."""
    message = f"xiaozhi devices approve {request.code}"
    return {"code": request.code, "message": message, "challenge": request.challenge}
