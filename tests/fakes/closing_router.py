"""A router's end of the link that closes while its workers go. A program: what it looks for holds a whole process.

The reader of the monitor takes a moment to close, as on a machine that has something else to do; the disconnects of the
workers fall into that moment.
"""

from __future__ import annotations

import asyncio
import tempfile
import time

import zmq

from shared.ids import WorkerId
from shared.link.envelope import Kind, pack_head
from shared.link.loop_socket import SendOutcome
from shared.link.sockets import RouterLink, WorkerLink, make_context
from tests.fakes.link_rig import until

WORKERS = 4
PAUSE_S = 0.1


class SlowReader(zmq.Socket[bytes]):
    """Closing one that reads a monitor takes PAUSE_S."""

    def close(self, linger: int | None = None) -> None:
        is_reader = self.type == zmq.PAIR
        super().close(linger)
        if is_reader:
            time.sleep(PAUSE_S)


class SlowContext(zmq.Context[zmq.Socket[bytes]]):
    _socket_class = SlowReader


async def close_while_workers_go(endpoint: str) -> None:
    context, others = SlowContext(), make_context()
    joined: set[WorkerId] = set()
    router = RouterLink(
        context,
        endpoint,
        on_message=lambda worker, head, body: joined.add(worker),
        on_disconnect=lambda: None,
        on_drained=lambda: None,
    )
    names = [WorkerId(f"tts-00.{number:08x}") for number in range(WORKERS)]
    workers = [
        WorkerLink(others, endpoint, name, on_message=lambda head, body: None, on_drained=lambda: None)
        for name in names
    ]
    for worker in workers:
        await until(lambda worker=worker: worker.send(pack_head(Kind.BEAT), None) is SendOutcome.SENT)
    await until(lambda: len(joined) == WORKERS)
    for worker in workers:
        worker.close(0)
    router.close()
    others.term()
    context.term()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(close_while_workers_go(f"ipc://{directory}/closing"))
