"""The seam between a worker process and what it does: a Service opens streams, a Stream is one job's way back.

`shared.worker.process.run` gives a service its streams. All calls come on the process's event loop and must not block;
heavy work goes to the service's own threads or child processes and returns with `loop.call_soon_threadsafe`.
"""

from __future__ import annotations

from typing import Any, Protocol

from shared.ids import Role, StreamId
from shared.link.messages import Body


class Stream(Protocol):
    """One open stream. After `done` or `error`, or after the router aborted it, every send is dropped."""

    id: StreamId

    @property
    def is_open(self) -> bool:
        """False once the stream has ended, whoever ended it."""

    def audio(self, packet: bytes) -> None:
        """Send one Opus packet to the router."""

    def event(self, body: Body) -> None:
        """Send an EVENT."""

    def credit(self, body: Body) -> None:
        """Send a CREDIT."""

    def done(self, **stats: Any) -> None:
        """End well. Numbers only. The second end of a stream is ignored and counted."""

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        """End badly. `message` is for the log and holds no speech and no secret."""


class Job(Protocol):
    """What a service does on one stream. An exception from any method ends the stream with ERROR{internal}."""

    def on_audio(self, packet: bytes) -> None: ...

    def on_event(self, body: dict[str, Any]) -> None:
        """An EVENT; `body["name"]` says which."""

    def on_credit(self, body: dict[str, Any]) -> None: ...

    def on_end(self) -> None:
        """No more input: finish, then `done`."""

    def on_abort(self, reason: str) -> None:
        """The stream is already closed (the runtime has answered DONE{aborted}); free what it held."""


class Service(Protocol):
    """One role's work in one process."""

    role: Role

    @property
    def capacity(self) -> int:
        """Streams that may be open at once."""

    @property
    def caps(self) -> dict[str, Any]:
        """Capabilities told in BEAT, e.g. {"engines": [...]}."""

    @property
    def stalled_ms(self) -> float:
        """How long the slowest compute thread has been on its present piece of work beyond what is normal; 0 = fine."""

    async def start(self) -> None:
        """Load models. Raises ConfigError or EngineError; the process then exits non-zero and says why."""

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        """Begin a job. Raises EngineError (code, retryable) to refuse it; the runtime answers "full" by itself."""

    async def close(self) -> None:
        """All streams have ended: stop threads and children."""
