"""What a decision asks supervisord to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ops.process import ProcessName


@dataclass(frozen=True, slots=True)
class Start:
    """supervisord starts it, and again whenever it dies."""

    name: ProcessName


@dataclass(frozen=True, slots=True)
class Stop:
    """The first SIGTERM, by way of supervisord, which then does not restart it."""

    name: ProcessName


@dataclass(frozen=True, slots=True)
class Signal:
    """Another signal to a process that is stopping."""

    name: ProcessName
    signal_name: Literal["TERM", "KILL"]


Act = Start | Stop | Signal
