"""What operators ask over HTTP: health, readiness, scrape targets, the state of the cluster.

/healthz and /readyz answer anybody. /sd and /api/cluster need the admin token on the network; on the command's unix
socket the file's rights are the key. None of them is readable by a page of another origin.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from router.web import metrics
from router.web.cluster import ClusterView
from router.web.snapshot import ClusterReport
from shared.identity.auth import bearer_token

_log = structlog.get_logger(__name__)

Page = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class AdminKey:
    """What opens the operator's pages on the network."""

    token: str

    def refusal(self, authorization: str | None) -> web.Response | None:
        """None if the request may pass."""
        offered = bearer_token(authorization)
        if self.token and hmac.compare_digest(offered.encode("utf-8", "surrogateescape"), self.token.encode()):
            return None
        metrics.ADMIN_REFUSALS.inc()
        remedy = "send the admin token" if self.token else "set server.admin_token, or use the xiaozhi command"
        return web.json_response({"error": remedy}, status=401, headers={"WWW-Authenticate": "Bearer"})


class OperatorDesk:
    def __init__(self, view: ClusterView, key: AdminKey | None, life: Callable[[], dict[str, int]] = dict) -> None:
        """`key` None: whoever reaches this listener is the operator, and is told of this process's own `life`."""
        self._view = view
        self._key = key
        self._life = life

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/healthz", self.on_healthz),
            web.get("/readyz", self.on_readyz),
            web.get("/sd", self._guarded(self.on_targets)),
            web.get("/api/cluster", self._guarded(self.on_cluster)),
        ]

    def _guarded(self, page: Page) -> Page:
        async def guarded(request: web.Request) -> web.Response:
            refusal = self._key.refusal(request.headers.get("Authorization")) if self._key else None
            return refusal if refusal is not None else await page(request)

        return guarded

    async def on_healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True, **self._life()})

    async def on_readyz(self, _request: web.Request) -> web.Response:
        """The whole cluster: 200 only if every configured router is ready and the supervisor gave up on nothing."""
        report = await self._view.report()
        body = {"ready": report.is_ready} | _faults(report)
        return web.json_response(body, status=200 if report.is_ready else 503)

    async def on_targets(self, _request: web.Request) -> web.Response:
        """Prometheus http_sd."""
        return _json([target.as_http_sd() for target in await self._view.scrape_targets()])

    async def on_cluster(self, _request: web.Request) -> web.Response:
        report, targets = await self._view.report(), await self._view.targets()
        routers = [snapshot.router.model_dump() for snapshot in report.routers.values() if snapshot]
        return _json(
            {
                "ready": report.is_ready,
                **_faults(report),
                "routers": routers,
                "workers": [worker.model_dump() for worker in report.workers()],
                "processes": await self._view.processes(targets),
            }
        )


def _faults(report: ClusterReport) -> dict[str, object]:
    return {"missing": report.missing, "fatal": report.fatal, "reasons": report.reasons}


def _json(body: object) -> web.Response:
    return web.Response(text=json.dumps(body), content_type="application/json")
