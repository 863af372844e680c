"""Both ends of a link in one event loop, over real sockets: a switchboard, workers, and peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import zmq

from router.pools.stream_ref import StreamRef
from router.pools.switchboard import Switchboard
from shared.ids import Role, StreamId, WorkerId
from shared.link.beat import worker_id
from shared.link.endpoints import Binding
from shared.link.envelope import PROTO, Head, Kind, pack_head, unpack_head, unpack_map
from shared.link.keys import WorkerKeys
from shared.link.loop_socket import SendOutcome
from shared.link.messages import Beat, Body, Error, Ping
from shared.link.sockets import HIGH_WATER_MESSAGES, RouterLink, WorkerLink, make_context
from shared.worker.routers import RouterSource
from shared.worker.runtime import WorkerRuntime
from tests.fakes.echo_service import EchoOpen, EchoService
from tests.fakes.recording_owner import PATIENCE_S, RecordingOwner


async def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """For conditions that tell nobody when they change."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - the kernel and libzmq's I/O thread set no asyncio.Event
            await asyncio.sleep(0.002)


class Inbox:
    """What a bare end of a link has received."""

    def __init__(self) -> None:
        self.messages: list[tuple[Kind, StreamId, int, bytes]] = []
        self._changed = asyncio.Event()

    def put(self, head: Head, body: bytes) -> None:
        self.messages.append((Kind(head.kind), head.stream, head.seq, body))
        self._changed.set()

    def of(self, kind: Kind) -> list[tuple[StreamId, int, bytes]]:
        return [(stream, seq, body) for k, stream, seq, body in self.messages if k is kind]

    async def until_has(self, kind: Kind, count: int = 1) -> list[tuple[StreamId, int, bytes]]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(kind)


def plain_beat(*, slot: int, capacity: int, opened: int = 0) -> Beat:
    return Beat(
        role="tts",
        incarnation="bare",
        slot=slot,
        capacity=capacity,
        active=0,
        draining=False,
        lag_ms=0.0,
        stalled_ms=0.0,
        epoch=1,
        proto=PROTO,
        pid=1,
        host="here",
        metrics_port=0,
        caps={"engines": ["echo"]},
        opened=opened,
    )


class BareWorker:
    """A DEALER that says only what a test tells it to."""

    def __init__(
        self,
        context: Any,
        endpoint: str,
        *,
        slot: int = 9,
        boot: str = "bare0000",
        capacity: int = 4,
        keys: WorkerKeys | None = None,
    ) -> None:
        self.inbox = Inbox()
        self.capacity = capacity
        self.slot = slot
        self.answers_pings = True
        self.refuses = False
        """Whether it answers each OPEN with ERROR{full}."""
        self.opened = 0
        self._seqs: dict[StreamId, int] = {}
        self.id = worker_id(Role.TTS, slot, boot)
        self.link = WorkerLink(
            context, endpoint, self.id, on_message=self._on_message, on_drained=lambda: None, keys=keys
        )

    async def join(self, **changes: Any) -> None:
        await until(lambda: self.beat(**changes) is SendOutcome.SENT)

    def beat(self, **changes: Any) -> SendOutcome:
        beat = plain_beat(slot=self.slot, capacity=self.capacity, opened=self.opened)
        return self.link.send(pack_head(Kind.BEAT), replace(beat, **changes).pack())

    def say(self, kind: Kind, stream: StreamId, body: Body | bytes, seq: int | None = None) -> SendOutcome:
        count = self._seqs.get(stream, 0)
        self._seqs[stream] = count + 1
        packed = body if isinstance(body, bytes) else body.pack()
        return self.link.send(pack_head(kind, stream, count if seq is None else seq), packed)

    def _on_message(self, head: Head, body: bytes) -> None:
        self.inbox.put(head, body)
        self.opened += head.kind == Kind.OPEN
        if head.kind == Kind.PING and self.answers_pings:
            self.beat()
        if head.kind == Kind.OPEN and self.refuses:
            self.say(Kind.ERROR, head.stream, Error(code="full", retryable=True, load=self.capacity))


class DeafWorker:
    """A raw DEALER that joins and then reads only when told to."""

    def __init__(self, context: Any, endpoint: str, high_water: int) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt_string(zmq.IDENTITY, "tts-08.deaf0000")
        self.socket.setsockopt(zmq.RCVHWM, high_water)
        self.socket.connect(endpoint)
        self.socket.send_multipart([pack_head(Kind.BEAT), plain_beat(slot=8, capacity=4).pack()])

    def read(self) -> list[tuple[Kind, StreamId]]:
        got = []
        while self.socket.poll(0):
            head = unpack_head(self.socket.recv_multipart()[0])
            got.append((Kind(head.kind), head.stream))
        return got


class BareRouter:
    """A ROUTER that says only what a test tells it to."""

    def __init__(self, context: Any, endpoint: str, high_water: int = HIGH_WATER_MESSAGES) -> None:
        self.inboxes: dict[WorkerId, Inbox] = {}
        self.link = RouterLink(
            context,
            endpoint,
            on_message=lambda worker, head, body: self.inboxes.setdefault(worker, Inbox()).put(head, body),
            on_disconnect=lambda: None,
            on_drained=lambda: None,
            high_water=high_water,
        )

    async def until_joined(self, count: int = 1) -> WorkerId:
        """The newest of `count` identities."""
        await until(lambda: len(self.inboxes) >= count)
        return list(self.inboxes)[-1]

    def say(self, worker: WorkerId, kind: Kind, stream: int = 0, seq: int = 0, body: Body | bytes = b"") -> SendOutcome:
        packed = body if isinstance(body, bytes) else body.pack()
        return self.link.send(worker, pack_head(kind, StreamId(stream), seq), packed or None)

    def ping(self, worker: WorkerId, boot: str = "boot") -> None:
        self.say(worker, Kind.PING, body=Ping(router_boot=boot))

    def open(self, worker: WorkerId, stream: int, body: Body | bytes | None = None) -> None:
        self.say(worker, Kind.OPEN, stream, 0, body or EchoOpen())

    async def until_answered(self, worker: WorkerId, kind: Kind, count: int = 1) -> dict[str, Any]:
        answers = await self.inboxes[worker].until_has(kind, count)
        return unpack_map(answers[count - 1][2])


class LinkRig:
    """Makes the two ends and takes them down again."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.context = make_context()
        self.boards: list[Switchboard] = []
        self._closers: list[Callable[[], None]] = []

    async def board(self, endpoint: str | Binding = "", **options: Any) -> Switchboard:
        board = Switchboard({Role.TTS: endpoint or self.endpoint}, **options)
        await board.start()
        self.boards.append(board)
        return board

    def worker(
        self,
        service: EchoService | None = None,
        slot: int = 0,
        routers: RouterSource | list[str] | None = None,
        **options: Any,
    ) -> WorkerRuntime:
        source = [self.endpoint] if routers is None else routers
        runtime = WorkerRuntime(service or EchoService(), source, slot=slot, context=self.context, **options)
        runtime.join()
        self._closers.append(lambda: runtime.close(0))
        return runtime

    async def deaf_worker(self, high_water: int) -> DeafWorker:
        worker = DeafWorker(self.context, self.endpoint, high_water)
        self._closers.append(lambda: worker.socket.close(0))
        await until(lambda: workers_of(self.boards[-1]))
        return worker

    async def bare_worker(self, joins: bool = True, endpoint: str = "", **options: Any) -> BareWorker:
        worker = BareWorker(self.context, endpoint or self.endpoint, **options)
        self._closers.append(lambda: worker.link.close(0))
        if joins:
            await worker.join()
        return worker

    def bare_router(self, **options: Any) -> BareRouter:
        router = BareRouter(self.context, self.endpoint, **options)
        self._closers.append(router.link.close)
        return router

    def open(self, board: Switchboard, body: Body | None = None, **wish: Any) -> tuple[StreamRef, RecordingOwner]:
        owner = RecordingOwner()
        return board.open(owner, Role.TTS, body or EchoOpen(), **wish), owner

    async def opened(self, board: Switchboard, **wish: Any) -> tuple[StreamRef, RecordingOwner]:
        ref, owner = self.open(board, **wish)
        await owner.until_told("opened")
        return ref, owner

    async def close(self) -> None:
        for board in self.boards:
            await board.close()
        for close in self._closers:
            close()
        self.context.term()


def workers_of(board: Switchboard) -> list[dict[str, Any]]:
    """Sorted by identity."""
    workers: list[dict[str, Any]] = board.snapshot()["pools"]["tts"]["workers"]
    return sorted(workers, key=lambda worker: str(worker["id"]))
