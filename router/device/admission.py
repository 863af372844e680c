"""Whom the router lets in: answered before the upgrade, so that a refusal costs one small response.

Order: a GET that asks for no upgrade is answered 200, whatever its path, so that load balancers and people can look;
then room and address, then the token, then how often the device has come.
"""

from __future__ import annotations

import math
import time
from http import HTTPStatus

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request, Response

from router import metrics
from router.device.identity import Identity, identify
from router.device.limits import Limits, Refusal
from router.device.neighbours import Neighbours
from router.device.socket import DeviceSocket
from shared.errors import ConfigError
from shared.identity.auth import DeviceLookup, authorise, clean_device_id
from shared.settings import Settings

log = structlog.get_logger(__name__)

LOG_EVERY_S = 60.0
"""Refusals for one reason are counted each and logged so often: whoever is refused comes again at once."""


class Admission:
    """Raises ConfigError for proxies that cannot be."""

    def __init__(self, settings: Settings, registry: DeviceLookup) -> None:
        self._registry = registry
        self._limits = Limits(settings.router)
        self._logged_at: dict[str, float] = {}
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """For requests from now on; who is connected stays and counts."""
        self._auth = settings.auth
        self._limits.reconfigure(settings.router)
        try:
            self._neighbours = Neighbours(settings)
        except ValueError as error:
            expected = "addresses or CIDR networks"
            raise ConfigError("server.trusted_proxies", settings.auth.trusted_proxies, expected) from error

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """None lets the request through; else what it is answered."""
        assert isinstance(connection, DeviceSocket)
        try:
            return self._answer(connection, request)
        except MultipleValuesError:
            # A header that may come once came twice: which of the two is meant would be a guess.
            self._note("ambiguous", "", time.monotonic())
            return connection.respond(HTTPStatus.BAD_REQUEST, "A header came twice\n")

    def _answer(self, connection: DeviceSocket, request: Request) -> Response | None:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return connection.respond(HTTPStatus.OK, "Server is running\n")
        peer = connection.remote_address
        origin = self._neighbours.origin(str(peer[0]) if peer else "", request.headers.raw_items())
        connection.counted_as = origin.counted_as
        now = time.monotonic()
        refusal = self._limits.admit_address(origin.counted_as, now)
        if refusal is not None:
            return self._refuse(connection, refusal, origin.address, now)
        connection.identity = identity = identify(request.path, request.headers, origin.address)
        if not self._is_authorised(identity, now):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "Unauthorized\n")
        device = clean_device_id(identity.device)
        refusal = None if device is None else self._limits.admit_device(device, now)
        return None if refusal is None else self._refuse(connection, refusal, origin.address, now)

    def entered(self, connection: DeviceSocket) -> None:
        """The upgrade is done. `left` follows, once."""
        self._limits.entered(connection.counted_as)

    def left(self, connection: DeviceSocket) -> None:
        self._limits.left(connection.counted_as)

    def _is_authorised(self, identity: Identity, now: float) -> bool:
        if identity.device is None and not self._auth.enabled:
            return True
        result = authorise(
            self._auth,
            identity.device,
            identity.client,
            identity.authorization,
            now_s=time.time(),
            registry=self._registry,
        )
        if not result.accepted:
            self._note(str(result.reason), identity.address, now)
        return result.accepted

    def _refuse(self, connection: DeviceSocket, refusal: Refusal, address: str, now: float) -> Response:
        self._note(refusal.reason, address, now)
        is_full = refusal.reason == "router_full"
        status = HTTPStatus.SERVICE_UNAVAILABLE if is_full else HTTPStatus.TOO_MANY_REQUESTS
        response = connection.respond(status, f"{status.phrase}\n")
        response.headers["Retry-After"] = str(refusal.retry_after_s)
        return response

    def _note(self, reason: str, address: str, now: float) -> None:
        metrics.CONNECTION_REJECTS.labels(reason).inc()
        if now - self._logged_at.get(reason, -math.inf) >= LOG_EVERY_S:
            self._logged_at[reason] = now
            log.warning("connection_refused", reason=reason, address=address)
