"""A fake upstream's life: a server on a free port of this machine, and what its clients sent.

    async with AliyunAsr(Script(fault=Fault.parse("error@start"))) as fake:
        fake.url
        fake.sessions

Each provider's fake is one module with one class; it writes its bytes by hand, from the provider's description, never
with the client's own code, so that both are checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from bench.upstreams.script import Faults, Script

HOST = "127.0.0.1"


@dataclass(slots=True)
class Session:
    """What one session of a client was seen to do."""

    id: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    started: dict[str, Any] = field(default_factory=dict)
    """The start message, decoded."""
    texts: list[str] = field(default_factory=list)
    audio_bytes: int = 0
    was_finished: bool = False
    was_cancelled: bool = False
    was_closed: bool = False
    """The client closed the connection while the session was running."""
    fault: str = ""
    """What this session was made to suffer."""


class Fake(ABC):
    """An async context manager: a port is taken on entry and everything is closed on exit."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        self._port = port
        self.connections = 0
        """How many were opened so far."""
        self.sessions: list[Session] = []
        self.running = 0
        """Sessions under way."""
        self.script = script or Script()

    @property
    def script(self) -> Script:
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script
        self.faults = Faults(script)

    @property
    def port(self) -> int:
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """What the client's configuration needs."""

    @abstractmethod
    def section(self) -> dict[str, Any]:
        """A section of the configuration file that leads here, `type` included."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
