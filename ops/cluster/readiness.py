"""What the whole cluster still waits for, asked of the web process through its admin socket in the run directory.

The web process calls the cluster ready as soon as every pool has one worker; a start is over when they all are there.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ops.process import ProcessName
from ops.unix_http import get_json
from shared.settings import metrics_port_of

ADMIN_SOCKET_NAME = "admin.sock"
POOLS = ("asr", "tts", "session")


def missing_of(run_dir: Path, names: Iterable[ProcessName]) -> str | None:
    """What the cluster still waits for; None when it is ready."""
    try:
        status, readiness = get_json(run_dir / ADMIN_SOCKET_NAME, "/readyz")
        if status != http.client.OK:
            return describe(readiness)
        _, cluster = get_json(run_dir / ADMIN_SOCKET_NAME, "/api/cluster")
    except (OSError, http.client.HTTPException):
        return "web"
    return absent_workers(names, cluster)


def absent_here(names: Iterable[ProcessName], metrics_port: int) -> str | None:
    """The same of a machine with workers only: each has to have heard from some router."""
    late = [f"{name.program} {name.slot}" for name in names if not _has_joined(name, metrics_port)]
    return ", ".join(late) or None


def _has_joined(name: ProcessName, metrics_port: int) -> bool:
    port = metrics_port_of(metrics_port, name.program, name.slot)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return bool(json.loads(connection.getresponse().read()).get("routers"))
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def describe(readiness: Any) -> str:
    """The reasons in a /readyz answer, on one line."""
    reasons = readiness.get("reasons", ()) if isinstance(readiness, dict) else ("web",)
    return ", ".join(reasons) or "the pools"


def absent_workers(names: Iterable[ProcessName], cluster: Any) -> str | None:
    """Pools that have fewer workers at a router than we started."""
    wanted = Counter(name.program for name in names if name.program in POOLS)
    workers = cluster.get("workers", ()) if isinstance(cluster, dict) else ()
    present = Counter(role for role, _ in {(worker["role"], worker["slot"]) for worker in workers})
    late = [f"{pool} {present[pool]}/{count}" for pool, count in wanted.items() if present[pool] < count]
    return ", ".join(late) or None
