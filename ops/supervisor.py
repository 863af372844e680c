"""What supervisord says and does, over the unix socket in the cluster's run directory.

A process is named `group:name` on the wire ("asr:asr_00") and `name` for people ("asr_00"). Every failure to reach
supervisord is a SupervisorError, also a socket that is not there yet.
"""

from __future__ import annotations

import http.client
import xmlrpc.client
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from ops.change.acts import Act, Signal, Start, Stop
from ops.process import ProcessInfo, ProcessName, State
from ops.unix_http import UnixTransport
from shared.errors import XiaozhiError

SOCKET_NAME = "supervisor.sock"
T = TypeVar("T")

_BENIGN_FAULTS = frozenset({50, 60, 70})
"""SPAWN_ERROR, ALREADY_STARTED, NOT_RUNNING (supervisor/xmlrpc.py, Faults): the process is where the caller wants it,
or in BACKOFF, which its state tells."""


class SupervisorError(XiaozhiError):
    """supervisord does not answer, or refuses."""

    code = "supervisor"


def info_of(row: dict[str, Any]) -> ProcessInfo:
    """From a row of supervisor.getProcessInfo."""
    pid = int(row["pid"])
    return ProcessInfo(
        name=ProcessName.parse(row["name"]),
        state=cast(State, row["statename"]),
        pid=pid,
        uptime_s=max(0, int(row["now"]) - int(row["start"])) if pid else 0,
        message=str(row["spawnerr"]),
        log=Path(row["stdout_logfile"]),
    )


class Supervisor:
    """The calls of supervisord that this project uses."""

    def __init__(self, run_dir: Path, timeout_s: float = 5.0) -> None:
        transport = UnixTransport(run_dir / SOCKET_NAME, timeout_s)
        self._proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport)

    def is_up(self) -> bool:
        try:
            _ask(self._proxy.supervisor.getState)
        except SupervisorError:
            return False
        return True

    def infos(self, names: Iterable[ProcessName]) -> list[ProcessInfo]:
        """Of these processes, in one round trip."""
        # Not xmlrpc.client.MultiCall: supervisord does not wrap each result in a list of one, as that expects.
        calls = [{"methodName": "supervisor.getProcessInfo", "params": [name.full]} for name in names]
        rows = cast(list[dict[str, Any]], _ask(lambda: self._proxy.system.multicall(calls)))
        for row in rows:
            if "faultCode" in row:
                raise SupervisorError(f"supervisord refuses: {row['faultString']}")
        return [info_of(row) for row in rows]

    def all_infos(self) -> list[ProcessInfo]:
        """Of every slot, started or not."""
        rows = _ask(self._proxy.supervisor.getAllProcessInfo)
        return [info_of(row) for row in cast(list[dict[str, Any]], rows)]

    def start(self, name: ProcessName) -> None:
        """Start it and return at once; it is no error if it runs already."""
        _tell(lambda: self._proxy.supervisor.startProcess(name.full, False))

    def stop(self, name: ProcessName) -> None:
        """SIGTERM, and SIGKILL after stopwaitsecs; returns at once."""
        _tell(lambda: self._proxy.supervisor.stopProcess(name.full, False))

    def signal(self, name: ProcessName, signal_name: str) -> None:
        """Another signal to a process, also to one that is stopping."""
        _tell(lambda: self._proxy.supervisor.signalProcess(name.full, signal_name))

    def shutdown(self) -> None:
        _tell(self._proxy.supervisor.shutdown)


def execute(supervisor: Supervisor, act: Act) -> None:
    """Raises SupervisorError."""
    match act:
        case Start(name):
            supervisor.start(name)
        case Stop(name):
            supervisor.stop(name)
        case Signal(name, signal_name):
            supervisor.signal(name, signal_name)


def _ask(call: Callable[[], T]) -> T:
    try:
        return call()
    except xmlrpc.client.Fault as fault:
        raise SupervisorError(f"supervisord refuses: {fault.faultString}") from fault
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        raise SupervisorError(f"supervisord does not answer: {type(error).__name__}") from error


def _tell(call: Callable[[], object]) -> None:
    try:
        _ask(call)
    except SupervisorError as error:
        fault = error.__cause__
        if not (isinstance(fault, xmlrpc.client.Fault) and fault.faultCode in _BENIGN_FAULTS):
            raise
