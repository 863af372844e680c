"""A real worker process behind a real socket: the test is its router."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.ids import Role, WorkerId
from shared.link.envelope import Kind, unpack_map
from shared.link.sockets import make_context
from shared.settings import router_endpoint
from tests.fakes.canary import blocked_lines
from tests.fakes.link_rig import BareRouter, until
from tests.fakes.ports import ClusterPorts

LOG_NAME = "worker.log"
LOAD_TIMEOUT_S = 60.0
PING_S = 0.5
"""A router that falls silent is left by its workers."""


@dataclass
class WorkerRig:
    """A worker process and the router it has joined. A role's own rig adds what its streams carry."""

    process: asyncio.subprocess.Process
    router: BareRouter
    worker: WorkerId
    log: Path

    def of(self, kind: Kind) -> list[tuple[int, int, bytes]]:
        """Messages of this kind: (stream, seq, body)."""
        return [(int(stream), seq, body) for stream, seq, body in self.router.inboxes[self.worker].of(kind)]

    def ends(self, stream: int) -> list[tuple[Kind, dict[str, Any]]]:
        kinds = (Kind.DONE, Kind.ERROR)
        return [(kind, unpack_map(body)) for kind in kinds for number, _, body in self.of(kind) if number == stream]

    async def end(self, stream: int) -> tuple[Kind, dict[str, Any]]:
        """Its DONE or ERROR, the only one."""
        await until(lambda: self.ends(stream), 30)
        assert len(self.ends(stream)) == 1
        return self.ends(stream)[0]

    def beats(self) -> int:
        return len(self.of(Kind.BEAT))

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def children(self) -> list[int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    async def keep_alive(self) -> None:
        while True:
            self.router.ping(self.worker)
            await asyncio.sleep(PING_S)


Rig = TypeVar("Rig", bound=WorkerRig)


@asynccontextmanager
async def worker_process(
    kind: type[Rig], *, role: Role, config: str, run_dir: Path, data_dir: Path, ports: ClusterPorts
) -> AsyncIterator[Rig]:
    """A process of the role with this configuration, joined. Its log is printed if the test fails."""
    log = data_dir / LOG_NAME
    context = make_context()
    router = BareRouter(context, router_endpoint(run_dir, 0, role))
    process = await started(role=role, config=config, run_dir=run_dir, data_dir=data_dir, ports=ports)
    keeper = None
    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            worker = await router.until_joined()
        rig = kind(process, router, worker, log)
        keeper = asyncio.create_task(rig.keep_alive(), name="ping-worker")
        yield rig
    except BaseException:
        print(log.read_text())  # noqa: T201 - shown by pytest with the failure
        raise
    finally:
        if keeper:
            keeper.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
        router.link.close()
        context.term()


def assert_clean(log: str, secret_words: tuple[str, ...]) -> None:
    """Nothing said is in a DEBUG log, no exception was raised, and after the start no callback held the loop.

    `secret_words` are in lower case.
    """
    assert not [word for word in secret_words if word in log.lower()]
    assert "Traceback" not in log
    _, _, running = log.partition("worker_started")
    running, _, _ = running.partition("worker_drained")
    assert blocked_lines(running) == []


def _environment(run_dir: Path, data_dir: Path, ports: ClusterPorts) -> dict[str, str]:
    own = {"XZ_RUN_DIR": str(run_dir), "XZ_DATA_DIR": str(data_dir), "XZ_DEBUG_LOOP": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **ports.environment(), **own}


async def started(
    *, role: Role, config: str, run_dir: Path, data_dir: Path, ports: ClusterPorts
) -> asyncio.subprocess.Process:
    """A process of the role with this configuration; it logs to LOG_NAME in its data directory."""
    (data_dir / ".config.yaml").write_text(config)
    environment = _environment(run_dir, data_dir, ports)
    with (data_dir / LOG_NAME).open("wb") as file:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"workers.{role}", "--slot", "0", env=environment, stdout=file, stderr=file
        )
