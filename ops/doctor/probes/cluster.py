"""supervisord's table, the end of the logs of what is not well, and the web process's page."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.cluster.lock import holder
from ops.cluster.orphans import orphans_of
from ops.cluster.readiness import ADMIN_SOCKET_NAME
from ops.doctor.running import ClusterFact, ProcessFact
from ops.process import ProcessInfo
from ops.supervisor import Supervisor, SupervisorError
from ops.unix_http import get_json

TIMEOUT_S = 3.0
TAIL_LINES = 8
TAIL_BYTES = 8192
_WELL = ("RUNNING", "STARTING", "STOPPED", "STOPPING")


def look_at_cluster(data_dir: Path, run_dir: Path) -> ClusterFact:
    who = holder(data_dir)
    try:
        infos = Supervisor(run_dir, TIMEOUT_S).all_infos()
    except SupervisorError:
        return ClusterFact(who.pid if who else None, supervisor_answers=False, orphans=orphans_of(run_dir))
    started = [info for info in infos if info.state != "STOPPED" or info.message]
    return ClusterFact(
        holder=who.pid if who else None,
        supervisor_answers=True,
        processes=[_process(info) for info in started],
        told=_told(run_dir),
    )


def _process(info: ProcessInfo) -> ProcessFact:
    return ProcessFact(
        name=str(info.name),
        program=info.name.program,
        state=info.state,
        uptime_s=info.uptime_s,
        message=info.message,
        log=str(info.log),
        tail=() if info.state in _WELL else tuple(tail(info.log)),
    )


def tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []


def _told(run_dir: Path) -> Mapping[str, Any] | None:
    try:
        status, body = get_json(run_dir / ADMIN_SOCKET_NAME, "/api/cluster", TIMEOUT_S)
    except (OSError, http.client.HTTPException):
        return None
    return body if status == http.client.OK and isinstance(body, dict) else None
