"""The two aiohttp applications of the web process: one for the network, one for the command's unix socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from router.web import metrics
from router.web.operator import OperatorDesk
from router.web.ota import DeviceDesk, add_cors

_log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
"""A device's system information is about 1.5 KB."""
DEVICE_PATHS = "/xiaozhi/"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def public_application(devices: DeviceDesk, operators: OperatorDesk) -> web.Application:
    """What the network may ask. `operators` must hold an AdminKey."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[answer_errors])
    app.add_routes([*devices.routes(), *operators.routes()])
    app.on_response_prepare.append(_prepare)
    return app


def admin_application(operators: OperatorDesk) -> web.Application:
    """What the operator's own commands may ask."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[answer_errors])
    app.add_routes(operators.routes())
    app.on_response_prepare.append(_prepare)
    return app


async def _prepare(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "xiaozhi"
    if request.path.startswith(DEVICE_PATHS):
        await add_cors(request, response)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A refusal is told in the shape that today's clients know; a fault of ours is logged, counted and hidden."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        if refusal.status < 400:
            raise
        metrics.REFUSALS.labels(str(refusal.status)).inc()
        body = {"success": False, "message": refusal.reason}
        headers = {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else None
        return web.json_response(body, status=refusal.status, headers=headers)
    except Exception:  # the root of this request's task
        metrics.REQUEST_ERRORS.inc()
        _log.exception("request_failed", path=request.path)
        return web.json_response({"success": False, "message": "internal error"}, status=500)
