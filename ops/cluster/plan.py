"""What `xiaozhi up` will run: which programs, how many slots, in which environment, from which directories.

Everything is decided here, before anything starts; paths are absolute: no process depends on where it was started.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import deploy
from ops.process import ProcessName
from shared.config.epoch import VARIABLE as EPOCH_VARIABLE
from shared.config.keys import VARIABLES
from shared.settings import ClusterSettings

DEFAULT_DRAIN_S = 8.0
HURRIED_DRAIN_S = 1.0
LONGEST_DRAIN_S = 60.0
"""Of any role, when it is stopped alone. A stop of the whole cluster hurries at its own deadline (Stopping)."""
START_TIMEOUT_S = 180.0
"""A large model on a slow disk takes minutes; a program that fails is found long before."""
MIN_FDS = 16_384
"""supervisord closes so many descriptors at every spawn: more only costs time."""
FIRST_TO_STOP = "router"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Plan:
    """One cluster on one machine."""

    conf: Path
    names: tuple[ProcessName, ...]
    data_dir: Path
    run_dir: Path
    log_dir: Path
    environment: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the person who starts it: what overrules the configuration file, now and when that is read again."""
    drain_s: float = DEFAULT_DRAIN_S
    start_timeout_s: float = START_TIMEOUT_S


def plan_of(settings: ClusterSettings, environ: Mapping[str, str], drain_s: float = DEFAULT_DRAIN_S) -> Plan:
    """The plan for these settings; `environ` is what the processes inherit beside it."""
    data_dir, run_dir = settings.data_dir.resolve(), settings.run_dir.resolve()
    log_dir = data_dir / "logs"
    return Plan(
        conf=Path(deploy.__file__).with_name("supervisord.conf"),
        names=process_names(settings),
        data_dir=data_dir,
        run_dir=run_dir,
        log_dir=log_dir,
        environment={**environ, **cluster_environment(settings, data_dir, run_dir, log_dir, drain_s)},
        variables=overruling(environ, data_dir, run_dir),
        drain_s=drain_s,
    )


def process_names(settings: ClusterSettings) -> tuple[ProcessName, ...]:
    """The slots to start, in the order in which they are started: web answers first, routers wait for no one."""
    counts = settings.counts
    wanted = {
        "web": min(1, counts.routers),
        "router": counts.routers,
        "session": counts.session,
        "asr": counts.asr,
        "tts": counts.tts,
    }
    return tuple(ProcessName(program, slot) for program, count in wanted.items() for slot in range(count))


def overruling(environ: Mapping[str, str], data_dir: Path, run_dir: Path) -> dict[str, str]:
    """The variables that the configuration is read with, and where it lies."""
    own = {variable: environ[variable] for variable in VARIABLES if environ.get(variable)}
    return own | {"XZ_DATA_DIR": str(data_dir), "XZ_RUN_DIR": str(run_dir)}


def cluster_environment(
    settings: ClusterSettings, data_dir: Path, run_dir: Path, log_dir: Path, drain_s: float
) -> dict[str, str]:
    """The variables that deploy/supervisord.conf and the processes read."""
    counts = settings.counts
    return {
        # supervisord listens before anything runs: where nobody would answer, no device should find a port.
        "XZ_HOST": settings.host if counts.routers else LOOPBACK,
        "XZ_WS_PORT": str(settings.ws_port),
        "XZ_HTTP_PORT": str(settings.http_port),
        "XZ_METRICS_PORT": str(settings.metrics_port),
        "XZ_DATA_DIR": str(data_dir),
        "XZ_RUN_DIR": str(run_dir),
        "XZ_LOG_DIR": str(log_dir),
        EPOCH_VARIABLE: str(run_dir),
        "XZ_ROUTERS": str(counts.routers),
        "XZ_ASR": str(counts.asr),
        "XZ_TTS": str(counts.tts),
        "XZ_SESSION": str(counts.session),
        "XZ_DRAIN_S": f"{max(drain_s, LONGEST_DRAIN_S):g}",
        "XZ_STOP_WAIT_S": str(math.ceil(max(drain_s, LONGEST_DRAIN_S)) + 15),
        "XZ_MIN_FDS": str(min_fds()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def min_fds() -> int:
    """File descriptors per process: what we want, as far as the hard limit of a plain user allows it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MIN_FDS if hard == resource.RLIM_INFINITY else min(MIN_FDS, hard)
