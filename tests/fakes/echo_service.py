"""A service that sends back what it gets, for tests of the link.

`python -m tests.fakes.echo_service RUN_DIR SLOT METRICS_PORT [CAPACITY [ROUTER DATA_DIR]]` is a whole worker process;
ROUTER is a tcp:// address, for which DATA_DIR holds the keys.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from shared.errors import EngineError
from shared.ids import Role
from shared.link.messages import AsrCredit, Body
from shared.settings import ClusterSettings, Settings
from shared.worker.process import run
from shared.worker.service import Job, Stream


@dataclass(frozen=True, slots=True)
class EchoOpen(Body):
    """What an echo stream is asked to do."""

    burst_frames: int = 0
    """Frames sent at once when the stream opens."""
    refuse: str = ""
    """Code of the EngineError that `open` raises."""


@dataclass(frozen=True, slots=True)
class Echo(Body):
    """The answer to an EVENT."""

    name: ClassVar[str] = "echo"
    of: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raise(Body):
    """Asks for a bug."""

    name: ClassVar[str] = "raise"


@dataclass(frozen=True, slots=True)
class Fail(Body):
    """Asks for an ERROR."""

    name: ClassVar[str] = "fail"
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class DoneTwice(Body):
    """Asks for a job that does not know that it has ended."""

    name: ClassVar[str] = "done_twice"


class EchoJob:
    """Echoes AUDIO and EVENT, answers CREDIT with CREDIT, ends at END."""

    def __init__(self, service: EchoService, stream: Stream) -> None:
        self.stream = stream
        self.frames = 0
        self._service = service

    def on_audio(self, packet: bytes) -> None:
        self.frames += 1
        self.stream.audio(packet)

    def on_event(self, body: dict[str, Any]) -> None:
        match body.get("name"):
            case "raise":
                raise RuntimeError("a sentence somebody said")
            case "fail":
                self.stream.error("asked", retryable=Fail.from_map(body).retryable)
            case "done_twice":
                self.stream.done(frames=self.frames)
                self.stream.done()
                self.stream.error("late")
            case _:
                self.stream.event(Echo(of=body))

    def on_credit(self, body: dict[str, Any]) -> None:
        self.stream.credit(AsrCredit.from_map(body))

    def on_end(self) -> None:
        self.stream.done(frames=self.frames)

    def on_abort(self, reason: str) -> None:
        self._service.aborts.append(reason)


class EchoService:
    """Opens echo jobs under any role."""

    def __init__(self, role: Role = Role.TTS, capacity: int = 8, engines: tuple[str, ...] = ("echo",)) -> None:
        self.role = role
        self.jobs: list[EchoJob] = []
        self.aborts: list[str] = []
        self.stalled_ms = 0.0
        self.capacity = capacity
        self.engines = engines
        self.is_closed = False

    @property
    def caps(self) -> dict[str, Any]:
        return {"engines": list(self.engines)}

    async def start(self) -> None:
        pass

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        wish = EchoOpen.from_map(body)
        if wish.refuse:
            raise EngineError("refused as asked", code=wish.refuse, retryable=True)
        for n in range(wish.burst_frames):
            stream.audio(b"%d" % n)
        job = EchoJob(self, stream)
        self.jobs.append(job)
        return job

    async def close(self) -> None:
        self.is_closed = True


def main() -> int:
    run_dir, slot, metrics_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    cluster = ClusterSettings(run_dir=run_dir, metrics_port=metrics_port)
    if len(sys.argv) > 6:
        cluster = cluster.model_copy(update={"router_endpoints": (sys.argv[5],), "data_dir": Path(sys.argv[6])})
    settings = Settings(cluster=cluster)
    capacity = int(sys.argv[4]) if len(sys.argv) > 4 else 8
    return run(EchoService(capacity=capacity), settings=settings, slot=slot, program="tts", drain_s=60.0)


if __name__ == "__main__":
    sys.exit(main())
