"""The link over tcp://: who gets in, who does not, and that the others never notice."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
import zmq
from prometheus_client import REGISTRY

from ops.keys import KeyRing
from router.pools.switchboard import Switchboard
from shared.errors import ConfigError
from shared.link.endpoints import Binding
from shared.link.envelope import MAX_MESSAGE_BYTES, Kind, pack_head
from shared.link.keys import MACHINES, WORKER_KEY, WorkerKeys, load_router_keys, make_pair
from shared.worker.runtime import WorkerRuntime
from tests.fakes.link_rig import LinkRig, plain_beat, until, workers_of
from tests.fakes.ports import free_port_range

pytestmark = pytest.mark.link

LOCALHOSTS = ["127.0.0.1", "[::1]"]


@dataclass
class Town:
    """A router that takes workers over ipc:// and tcp://, and its keys."""

    rig: LinkRig
    ring: KeyRing
    data_dir: Path
    remote: str
    keys: dict[str, WorkerKeys] = field(default_factory=dict)

    async def open(self) -> Switchboard:
        binding = Binding(self.rig.endpoint, self.remote)
        return await self.rig.board(binding, load_keys=partial(load_router_keys, self.data_dir))

    def make_keys(self, machine: str) -> WorkerKeys:
        self.ring.add(machine)
        secret = (self.ring.directory / MACHINES / machine / WORKER_KEY).read_text().strip().encode()
        return WorkerKeys(zmq.curve_public(secret), secret, self.router_key)

    @property
    def router_key(self) -> bytes:
        return (self.ring.directory / "router.pub").read_text().strip().encode()

    def remote_worker(self, keys: WorkerKeys, slot: int = 1, **options: Any) -> WorkerRuntime:
        return self.rig.worker(slot=slot, routers=[self.remote], keys=keys, **options)


@pytest.fixture(params=LOCALHOSTS, ids=["ipv4", "ipv6"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def town_at(host: str, rig: LinkRig, tmp_path: Path) -> Town:
    ring = KeyRing(tmp_path)
    ring.init()
    town = Town(rig, ring, tmp_path, f"tcp://{host}:{free_port_range(1)}")
    town.keys = {machine: town.make_keys(machine) for machine in ("box-2", "box-3", "box-7")}
    return town


@pytest_asyncio.fixture
async def town(rig: LinkRig, tmp_path: Path) -> AsyncIterator[Town]:
    yield town_at("127.0.0.1", rig, tmp_path)


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("xz_link_auth_refused_total", {"reason": reason}) or 0.0


async def talks(rig: LinkRig, board: Switchboard, frames: int = 20) -> None:
    """A whole stream: open, frames there and back, done."""
    ref, owner = await rig.opened(board, wait_s=10.0)
    for n in range(frames):
        assert ref.send_audio(b"frame %d" % n)
    await owner.until(lambda: owner.names().count("audio") == frames)
    ref.end()
    assert (await owner.until_ended())[0] == "done"


async def test_a_machine_with_a_key_joins_beside_workers_of_this_one(rig: LinkRig, tmp_path: Path, host: str) -> None:
    """The same socket serves ipc:// without keys and tcp:// with them, on IPv4 and IPv6."""
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    town = town_at(host, rig, tmp_path)
    board = await town.open()
    town.remote_worker(town.keys["box-2"])
    await until(lambda: len(workers_of(board)) == 1, 15)
    await talks(rig, board)
    rig.worker(slot=0)
    await until(lambda: len(workers_of(board)) == 2)
    for _ in range(8):
        await talks(rig, board)


def test_a_router_without_keys_does_not_start(tmp_path: Path) -> None:
    """It would be open to whoever reaches the port."""
    with pytest.raises(ConfigError, match=r"router\.key.*xiaozhi keys init"):
        load_router_keys(tmp_path)


async def test_a_binding_without_keys_is_refused(rig: LinkRig) -> None:
    """Also if somebody forgets to load them."""
    with pytest.raises(ConfigError, match="XZ_LINK_BIND"):
        await rig.board(Binding(rig.endpoint, "tcp://127.0.0.1:0"))


async def test_a_worker_without_keys_does_not_connect(rig: LinkRig) -> None:
    """It would send what people say in the clear."""
    with pytest.raises(ConfigError, match="xiaozhi keys add"):
        rig.worker(routers=["tcp://127.0.0.1:5600"])


def address_of(town: Town) -> tuple[str, int]:
    host, _, port = town.remote.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def say(town: Town, words: bytes) -> None:
    """Until the router has hung up."""
    reader, writer = await asyncio.open_connection(*address_of(town))
    writer.write(words)
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def garbage(town: Town) -> None:
    await say(town, random.Random(1).randbytes(4096))


async def http(town: Town) -> None:
    await say(town, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")


async def broken_off(town: Town) -> None:
    _, writer = await asyncio.open_connection(*address_of(town))
    writer.transport.abort()


async def without_curve(town: Town) -> None:
    await knock(town, None)


async def with_a_strange_key(town: Town) -> None:
    public, secret = make_pair()
    await knock(town, WorkerKeys(public.encode(), secret.encode(), town.router_key))


async def with_the_wrong_router_key(town: Town) -> None:
    public, secret = make_pair()
    await knock(town, WorkerKeys(public.encode(), secret.encode(), make_pair()[0].encode()))


async def knock(town: Town, keys: WorkerKeys | None) -> None:
    """A DEALER that sends a BEAT as soon as it may, which must be never."""
    dealer = town.rig.context.socket(zmq.DEALER)
    dealer.setsockopt_string(zmq.IDENTITY, "tts-05.stranger")
    dealer.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.router)
    monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    dealer.connect(town.remote)
    dealer.send_multipart([pack_head(Kind.BEAT), plain_beat(slot=5, capacity=9).pack()])
    await until(lambda: monitor.poll(0))
    monitor.close(0)
    dealer.disable_monitor()
    dealer.close(0)


@pytest.mark.parametrize(
    ("stranger", "reasons"),
    [
        (without_curve, {"mechanism", "broken_off", "garbage"}),
        (with_a_strange_key, {"key"}),
        (with_the_wrong_router_key, {"handshake", "broken_off"}),
        (garbage, {"garbage", "broken_off", "handshake"}),
        (http, {"garbage", "broken_off", "handshake"}),
        (broken_off, {"garbage", "broken_off"}),
    ],
)
async def test_a_stranger_is_counted_and_disturbs_nobody(
    town: Town, rig: LinkRig, stranger: Callable[[Town], Awaitable[None]], reasons: set[str]
) -> None:
    """While it knocks, a stream of a worker of this machine and of another one go on."""
    board = await town.open()
    town.remote_worker(town.keys["box-2"])
    rig.worker(slot=0)
    await until(lambda: len(workers_of(board)) == 2, 15)
    before = {reason: refused(reason) for reason in reasons}
    ids = [worker["id"] for worker in workers_of(board)]
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await asyncio.gather(stranger(town), talks(rig, board))
        await until(lambda: sum(refused(reason) - before[reason] for reason in reasons) >= 1)
        await talks(rig, board)
    assert [worker["id"] for worker in workers_of(board)] == ids
    told = [line for line in logs if line["event"] in ("link_stranger_refused", "link_key_refused")]
    assert 1 <= len(told) <= 1 + len(reasons), "once a minute, however often it comes"


async def test_half_open_connections_are_ended_and_cost_nobody_anything(town: Town, rig: LinkRig) -> None:
    """Accepted, silent, and closed by us after five seconds; meanwhile a machine joins and is served."""
    board = await town.open()
    before = refused("broken_off")
    silent = [await asyncio.open_connection(*address_of(town)) for _ in range(50)]
    town.remote_worker(town.keys["box-2"])
    await until(lambda: workers_of(board), 15)
    await talks(rig, board)
    async with asyncio.timeout(30):
        await asyncio.gather(*(reader.read() for reader, _ in silent))
    await until(lambda: refused("broken_off") - before >= len(silent))
    await talks(rig, board)
    for _, writer in silent:
        writer.close()


async def test_a_message_beyond_the_fuse_ends_its_own_connection_only(town: Town, rig: LinkRig) -> None:
    """libzmq disconnects who sends more than 256 KiB; the stream it had is lost, all others go on."""
    board = await town.open()
    liar = await rig.bare_worker(endpoint=town.remote, slot=7, keys=town.keys["box-7"])
    ref, owner = await rig.opened(board)
    town.remote_worker(town.keys["box-2"])
    await until(lambda: len(workers_of(board)) == 2, 15)
    liar.say(Kind.AUDIO, ref.id, b"x" * MAX_MESSAGE_BYTES)
    liar.say(Kind.AUDIO, ref.id, b"x" * MAX_MESSAGE_BYTES + b"y")
    assert await owner.until_ended() == ("lost", "dead", True)
    await until(lambda: [worker["slot"] for worker in workers_of(board)] == [1])
    await talks(rig, board)


async def test_a_revoked_machine_is_let_go_at_once_and_not_let_in_again(town: Town, rig: LinkRig) -> None:
    """Its streams go elsewhere; the other machine notices nothing; with a new key it may come back."""
    board = await town.open()
    worker = town.remote_worker(town.keys["box-2"])
    await until(lambda: workers_of(board), 15)
    _, owner = await rig.opened(board)
    town.remote_worker(town.keys["box-3"], slot=3)
    await until(lambda: len(workers_of(board)) == 2, 15)
    before = refused("key")
    town.ring.revoke("box-2")
    board.reload()
    assert await owner.until_ended() == ("lost", "dead", True)
    assert [each["slot"] for each in workers_of(board)] == [3]
    await until(lambda: refused("key") > before)
    await talks(rig, board)
    assert [each["slot"] for each in workers_of(board)] == [3]
    worker.close(0)
    town.remote_worker(town.make_keys("box-2"), slot=2)
    await until(lambda: [each["slot"] for each in workers_of(board)] == [2, 3], 15)


async def test_a_revoked_worker_that_stays_is_no_member(town: Town, rig: LinkRig) -> None:
    """Its connection may live on; whatever it says, under the old identity, is answered by LEAVE."""
    board = await town.open()
    liar = await rig.bare_worker(endpoint=town.remote, slot=7, keys=town.keys["box-7"])
    await until(lambda: workers_of(board))
    town.ring.revoke("box-7")
    board.reload()
    await liar.inbox.until_has(Kind.LEAVE)
    for n in range(1, 6):
        liar.beat()
        await liar.inbox.until_has(Kind.LEAVE, 1 + n)
    assert workers_of(board) == []


async def test_the_list_is_looked_at_by_itself(town: Town, rig: LinkRig) -> None:
    """No signal, no restart: a machine that is added joins, though it was refused before.

    After a refusal libzmq tries no more by itself, so the worker takes a new socket.
    """
    board = await town.open()
    public, secret = make_pair()
    before = refused("key")
    town.remote_worker(WorkerKeys(public.encode(), secret.encode(), town.router_key))
    await until(lambda: refused("key") > before, 15)
    (town.ring.directory / "allowed" / "late.pub").write_text(public)
    await until(lambda: workers_of(board), 40)
    await talks(rig, board)


async def test_a_router_known_by_name_is_found(town: Town, rig: LinkRig) -> None:
    """The name is resolved off the loop and off libzmq's thread."""
    board = await town.open()
    port = address_of(town)[1]
    rig.worker(slot=1, routers=[f"tcp://localhost:{port}"], keys=town.keys["box-2"])
    await until(lambda: workers_of(board), 40)
    await talks(rig, board)
