"""A slot of a program, and what supervisord knows of the process in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN"]
ENDED: frozenset[State] = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})
GONE: frozenset[State] = frozenset({"STOPPED", "FATAL", "UNKNOWN"})
"""Ended, and not about to be restarted by supervisord (autorestart)."""
STOPPABLE: frozenset[State] = frozenset({"STARTING", "RUNNING", "BACKOFF"})


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
        """Raises ValueError."""
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
