"""Two sockets on the loop: edges, full peers, dead peers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
import zmq

from shared.errors import ConfigError
from shared.ids import StreamId, WorkerId
from shared.link.envelope import Head, Kind, pack_head
from shared.link.loop_socket import SendOutcome
from shared.link.sockets import RouterLink, WorkerLink, make_context
from tests.fakes.link_rig import LinkRig, until

pytestmark = pytest.mark.link

ROOT = Path(__file__).resolve().parents[2]
WORKER = WorkerId("tts-00.edge0000")
ROUND_TRIPS = 10_000


def nothing() -> None:
    pass


async def ping_pong(endpoint: str, in_flight: int, is_inside: bool) -> int:
    """Both ends send only because they have received: any lost edge stops it for good."""
    context = make_context()
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[int] = loop.create_future()
    trips = 0

    def on_router_message(worker: WorkerId, head: Head, body: bytes) -> None:
        nonlocal trips
        if head.kind == Kind.BEAT:
            for n in range(in_flight):
                router.send(worker, pack_head(Kind.AUDIO, StreamId(1), n), b"x" * 200)
            return
        trips += 1
        if trips == ROUND_TRIPS:
            finished.set_result(trips)
        elif trips + in_flight <= ROUND_TRIPS:
            answer(router.send, worker, pack_head(Kind.AUDIO, StreamId(1), head.seq), body)

    def on_worker_message(head: Head, body: bytes) -> None:
        answer(worker.send, pack_head(Kind.AUDIO, head.stream, head.seq), body)

    def answer(send: Callable[..., SendOutcome], *message: object) -> None:
        if is_inside:
            send(*message)
        else:
            loop.call_soon(send, *message)

    router = RouterLink(context, endpoint, on_message=on_router_message, on_disconnect=nothing, on_drained=nothing)
    worker = WorkerLink(context, endpoint, WORKER, on_message=on_worker_message, on_drained=nothing)
    try:
        await until(lambda: worker.send(pack_head(Kind.BEAT), None) is SendOutcome.SENT)
        return await asyncio.wait_for(finished, 30)
    finally:
        worker.close(0)
        router.close()
        context.term()


@pytest.mark.parametrize("in_flight", [1, 200])
@pytest.mark.parametrize("is_inside", [True, False], ids=["inside", "later"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_edge_is_lost_between_sends_and_receives(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop], in_flight: int, is_inside: bool
) -> None:
    """The FD is edge triggered, and a send consumes its edge: 10,000 round trips pass all the same.

    Sent from inside the receive callback, or from a callback of its own when the drain is over.
    """
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(ping_pong(f"ipc://{tmp_path}/edge", in_flight, is_inside)) == ROUND_TRIPS


def test_a_router_closes_while_its_workers_go() -> None:
    """Its monitor is stopped before its reader is closed: libzmq would wait for one for ever, and we for libzmq."""
    closing = subprocess.run([sys.executable, "-m", "tests.fakes.closing_router"], cwd=ROOT, timeout=60, check=False)
    assert closing.returncode == 0


async def test_a_full_peer_is_told_and_nothing_spins_on_it(rig: LinkRig) -> None:
    """EAGAIN is an outcome; retrying at each drain must not become a busy loop."""
    retries = 0
    is_full = False

    def on_drained() -> None:
        nonlocal retries
        if is_full:
            retries += 1
            router.send(WORKER, pack_head(Kind.PING), None)

    seen: list[WorkerId] = []
    router = RouterLink(
        rig.context,
        rig.endpoint,
        on_message=lambda worker, head, body: seen.append(worker),
        on_disconnect=nothing,
        on_drained=on_drained,
        high_water=10,
    )
    socket = rig.context.socket(zmq.DEALER)  # nobody reads it
    socket.setsockopt_string(zmq.IDENTITY, WORKER)
    socket.setsockopt(zmq.RCVHWM, 10)
    socket.connect(rig.endpoint)
    socket.send(pack_head(Kind.BEAT))
    await until(lambda: seen)
    outcomes = [router.send(WORKER, pack_head(Kind.AUDIO, StreamId(1), n), b"x" * 60_000) for n in range(1000)]
    assert outcomes[0] is SendOutcome.SENT
    assert outcomes[-1] is SendOutcome.FULL
    is_full = True
    await asyncio.sleep(0.2)
    assert 1 <= retries < 20
    socket.close(0)
    router.close()


async def test_an_unknown_peer_is_unreachable(rig: LinkRig) -> None:
    """Never silently dropped."""
    router = rig.bare_router()
    assert router.say(WorkerId("tts-77.nobody00"), Kind.PING) is SendOutcome.UNREACHABLE


async def test_a_worker_without_a_router_sends_nothing(rig: LinkRig) -> None:
    """Nothing queues up that would reach a later router stale."""
    worker = WorkerLink(rig.context, rig.endpoint, WORKER, on_message=lambda head, body: None, on_drained=nothing)
    assert worker.send(pack_head(Kind.BEAT), None) is SendOutcome.FULL
    router = rig.bare_router()
    await until(lambda: worker.send(pack_head(Kind.BEAT), b"fresh") is SendOutcome.SENT)
    await router.until_joined()
    await until(lambda: router.inboxes[WORKER].of(Kind.BEAT))
    assert [body for _, _, body in router.inboxes[WORKER].of(Kind.BEAT)] == [b"fresh"]
    worker.close(0)


async def test_a_closed_peer_is_noticed_without_sending_to_it(rig: LinkRig) -> None:
    """The socket's monitor tells of the disconnect; the next send is refused."""
    disconnects: list[bool] = []
    seen: list[WorkerId] = []
    router = RouterLink(
        rig.context,
        rig.endpoint,
        on_message=lambda worker, head, body: seen.append(worker),
        on_disconnect=lambda: disconnects.append(True),
        on_drained=nothing,
    )
    worker = WorkerLink(rig.context, rig.endpoint, WORKER, on_message=lambda head, body: None, on_drained=nothing)
    await until(lambda: worker.send(pack_head(Kind.BEAT), None) is SendOutcome.SENT)
    await until(lambda: seen)
    worker.close(0)
    await until(lambda: disconnects)
    await until(lambda: router.send(WORKER, pack_head(Kind.PING), None) is SendOutcome.UNREACHABLE)
    router.close()


async def test_garbage_is_counted_and_the_next_message_still_read(rig: LinkRig) -> None:
    """A malformed head or a third part is nobody's message."""
    router = rig.bare_router()
    socket = rig.context.socket(zmq.DEALER)
    socket.setsockopt_string(zmq.IDENTITY, WORKER)
    socket.connect(rig.endpoint)
    for parts in ([b"\xc1"], [b"\x93\x01\x02"], [b"a", b"b", b"c"], [pack_head(Kind.BEAT), b"good"]):
        socket.send_multipart(parts)
    await router.until_joined()
    await until(lambda: router.inboxes[WORKER].of(Kind.BEAT))
    assert router.link.traffic.malformed == 3
    socket.close(0)


async def test_a_path_that_cannot_be_bound_is_a_config_error(rig: LinkRig, tmp_path: Path) -> None:
    """Named before anything starts."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="taken"):
        RouterLink(
            rig.context,
            f"ipc://{tmp_path}/taken",
            on_message=lambda worker, head, body: None,
            on_disconnect=nothing,
            on_drained=nothing,
        )
