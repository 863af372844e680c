"""What supervisord says and does, over the unix socket in the cluster's run directory.

A process is named `group:name` on the wire ("asr:asr_00") and `name` for people ("asr_00"). Every failure to reach
supervisord is a SupervisorError, also a socket that is not there yet.
"""

from __future__ import annotations

import http.client
import xmlrpc.client
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from ops.unix_http import UnixTransport
from shared.errors import XiaozhiError

SOCKET_NAME = "supervisor.sock"
State = Literal["STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN"]
ENDED: frozenset[State] = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})
T = TypeVar("T")

_BENIGN_FAULTS = frozenset({50, 60, 70})
"""SPAWN_ERROR, ALREADY_STARTED, NOT_RUNNING (supervisor/xmlrpc.py, Faults): the process is where the caller wants it,
or in BACKOFF, which its state tells."""


class SupervisorError(XiaozhiError):
    """supervisord does not answer, or refuses."""

    code = "supervisor"


@dataclass(frozen=True, slots=True)
class ProcessName:
    """One slot of a program."""

    program: str
    slot: int

    def __str__(self) -> str:
        return f"{self.program}_{self.slot:02d}"

    @property
    def full(self) -> str:
        """As supervisord wants it."""
        return f"{self.program}:{self}"

    @classmethod
    def parse(cls, text: str) -> ProcessName:
        program, _, slot = text.rpartition("_")
        return cls(program, int(slot))


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What supervisord knows of one process."""

    name: ProcessName
    state: State
    pid: int
    uptime_s: int
    message: str
    log: Path

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


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
