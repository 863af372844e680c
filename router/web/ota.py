"""What devices ask over HTTP: their settings at boot, their activation, their firmware.

Every answer that a device reads has status 200 (202 while it waits for its activation), a Content-Length and a body:
the firmware takes no other status, follows no redirect, mishandles chunks, and stalls 30 s on an empty body
(78/xiaozhi-esp32, main/ota.cc; 78/esp-ml307, src/http_client.cc).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from router.web import metrics, reply
from router.web.admission import Admission, Admissions
from router.web.boot import Build, Ids, read_body, read_build, read_ids
from router.web.caller import Caller, Neighbourhood, identify
from router.web.firmware import find_newer, is_safe_name, parse_version
from router.web.shelf import FirmwareShelf
from shared.settings import Settings

_log = structlog.get_logger(__name__)

BODY_TIMEOUT_S = 10.0
CORS_HEADERS = {
    "Access-Control-Allow-Headers": "client-id, content-type, device-id, authorization",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Allow-Origin": "*",
}
CORS_METHODS = "GET, POST, OPTIONS"


@dataclass(frozen=True, slots=True)
class Boot:
    """One device's question: who asks, what it runs, from where and when."""

    ids: Ids
    build: Build
    caller: Caller
    now_s: float


class DeviceDesk:
    """The handlers of /xiaozhi/ota/."""

    def __init__(self, settings: Settings, around: Neighbourhood, admissions: Admissions, shelf: FirmwareShelf) -> None:
        self._settings = settings
        self._around = around
        self._admissions = admissions
        self._shelf = shelf

    def routes(self) -> list[web.AbstractRouteDef]:
        """With and without the slash: a redirect would be a failure to the device."""
        routes: list[web.AbstractRouteDef] = []
        for slash in ("", "/"):
            ota, activate = f"/xiaozhi/ota{slash}", f"/xiaozhi/ota/activate{slash}"
            routes += [web.get(ota, self.on_get), web.post(ota, self.on_boot), web.options(ota, self.on_options)]
            routes += [web.post(activate, self.on_activate), web.options(activate, self.on_options)]
        download = f"{reply.DOWNLOAD_PATH}{{name}}"
        return [*routes, web.get(download, self.on_download), web.options(download, self.on_options)]

    async def on_options(self, _request: web.Request) -> web.Response:
        return web.Response(text="", headers={"Access-Control-Allow-Methods": CORS_METHODS})

    async def on_get(self, request: web.Request) -> web.Response:
        """For people who try the address in a browser."""
        url = self._websocket_url(self._caller(request))
        return web.Response(text=f"OTA接口运行正常，向设备发送的websocket地址是：{url}")

    async def on_boot(self, request: web.Request) -> web.Response:
        body = await _read(request)
        if body is None:
            metrics.OTA_BAD_BODIES.inc()
            body = {}
        ids = read_ids(request.headers)
        if ids is None:
            metrics.OTA_OUTCOMES["bad_request"].inc()
            return _json({"success": False, "message": "request error."})
        boot = Boot(ids, read_build(request.headers, body), self._caller(request), time.time())
        admission = await self._admissions.admit(ids, boot.caller, boot.now_s)
        metrics.OTA_OUTCOMES[admission.outcome].inc()
        _log.info("device_booted", device=ids.device, outcome=admission.outcome, lan=boot.caller.is_lan)
        return _json(await self._answer(boot, admission))

    async def on_activate(self, request: web.Request) -> web.Response:
        """The operator's approval decides. The HMAC of a version 2 body is made with a key burnt into the chip, which
        only its maker knows: it cannot be checked here, and a body of any shape is as good as `{}`."""
        await _read(request)
        ids = read_ids(request.headers)
        if ids is None:
            return _activation(400, "request error.")
        if await self._admissions.is_active(ids):
            return _activation(200, "success")
        return _activation(202, "waiting for approval")

    async def on_download(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if not is_safe_name(name):
            return _download_error(400, "invalid filename")
        path = await self._shelf.find(name)
        if path is None:
            return _download_error(404, "file not found")
        metrics.DOWNLOADS.labels("200").inc()
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def _answer(self, boot: Boot, admission: Admission) -> dict[str, Any]:
        settings = self._settings.web
        answer: dict[str, Any] = {"server_time": reply.time_section(boot.now_s, settings.timezone_offset_h)}
        if firmware := await self._firmware(boot):
            answer["firmware"] = firmware
        if settings.mqtt_gateway:
            gateway = reply.MqttGateway(settings.mqtt_gateway, settings.mqtt_signature_key)
            answer["mqtt"] = reply.mqtt_section(gateway, boot.ids.device, boot.build.model, trusted=admission.trusted)
        else:
            answer["websocket"] = reply.websocket_section(self._websocket_url(boot.caller), admission.token)
        if admission.request:
            answer["activation"] = reply.activation_section(admission.request)
        return answer

    async def _firmware(self, boot: Boot) -> dict[str, Any] | None:
        build, caller = boot.build, boot.caller
        running = parse_version(build.version)
        offered = find_newer(await self._shelf.names(), build.model, running) if running else None
        if offered is None:
            return reply.echo_section(build.version)
        vision_url = self._settings.session.vision_url
        url = reply.download_url(caller.host, offered.name, secure=caller.secure, vision_url=vision_url)
        return reply.upgrade_section(offered, url)

    def _websocket_url(self, caller: Caller) -> str:
        settings = self._settings
        return settings.web.websocket_url or reply.websocket_url(
            caller.host, settings.cluster.ws_port, secure=caller.secure
        )

    def _caller(self, request: web.Request) -> Caller:
        name = request.get_extra_info("sockname")
        own = (name[0], name[1]) if isinstance(name, tuple) else None
        return identify(request.remote, request.headers, self._around, own=own)


async def _read(request: web.Request) -> dict[str, Any] | None:
    """The JSON object of a body; None if it is none. Raises 408 or 413."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return read_body(await request.read())
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body did not arrive in time") from None


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def _activation(status: int, message: str) -> web.Response:
    metrics.ACTIVATIONS.labels(str(status)).inc()
    return _json({"success": status == 200, "message": message}, status=status)


def _download_error(status: int, message: str) -> web.Response:
    metrics.DOWNLOADS.labels(str(status)).inc()
    return web.Response(text=message, status=status)


async def add_cors(_request: web.Request, response: web.StreamResponse) -> None:
    """Pages in browsers (the test page) may read these answers; `identify` decides who gets a token."""
    response.headers.update(CORS_HEADERS)
