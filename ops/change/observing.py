"""Looks at a running cluster: supervisord's table, and through the web process what each life says of itself."""

from __future__ import annotations

import http.client
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any

from ops.change.agreed import settings_now
from ops.change.sight import Sight, sight_of
from ops.supervisor import Supervisor
from ops.unix_http import get_json
from shared.config.epoch import current_epoch
from shared.errors import ConfigError

ADMIN_SOCKETS = "admin*.sock"
ASK_TIMEOUT_S = 3.0


def observe(supervisor: Supervisor, run_dir: Path) -> Sight:
    """Every slot, started or not. Raises SupervisorError."""
    infos = supervisor.all_infos()
    return sight_of(infos, cluster_of(run_dir), webs_of(run_dir), own_host(run_dir))


def webs_of(run_dir: Path) -> list[dict[str, Any]]:
    """Slot, pid and epoch of each web process that answers."""
    lives = [_get(path, "/healthz") for path in admin_sockets(run_dir)]
    return [life for life in lives if isinstance(life, dict) and "pid" in life]


def own_host(run_dir: Path) -> str:
    """What the workers of this machine give as their host."""
    return _host_of(run_dir, current_epoch(run_dir))


@lru_cache(maxsize=4)
def _host_of(run_dir: Path, epoch: int | None) -> str:
    try:
        return settings_now(run_dir).cluster.advertised_host or socket.gethostname()
    except (ConfigError, OSError):
        return socket.gethostname()


def cluster_of(run_dir: Path) -> Any:
    """The body of /api/cluster, from any web process that answers; None if there is none."""
    return next((body for path in admin_sockets(run_dir) if (body := _get(path, "/api/cluster")) is not None), None)


def admin_sockets(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob(ADMIN_SOCKETS), key=lambda path: (path.stem.count("-"), path.name))


def _get(path: Path, target: str) -> Any:
    try:
        status, body = get_json(path, target, ASK_TIMEOUT_S)
    except (OSError, http.client.HTTPException):
        return None
    return body if status == http.client.OK else None
