"""Routers come and go while a worker lives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from router.pools.switchboard import Switchboard
from shared.errors import ConfigError
from shared.ids import Role
from shared.link.envelope import Kind
from shared.settings import ClusterSettings, router_endpoint
from shared.worker.addresses import Addresses, next_of
from shared.worker.routers import RouterFile, RouterSources, read_list
from tests.fakes.echo_service import EchoService
from tests.fakes.link_rig import LinkRig, until, workers_of

pytestmark = pytest.mark.link


def socket_of(tmp_path: Path, slot: int) -> str:
    return router_endpoint(tmp_path, slot, Role.TTS)


def listing(path: Path, endpoints: Sequence[str]) -> None:
    """As an editor writes a file: whole, by rename."""
    new = path.with_suffix(".new")
    new.write_text("# routers of this site\n" + "".join(f"{endpoint}\n" for endpoint in endpoints))
    new.replace(path)


def ids_of(board: Switchboard) -> list[str]:
    return [str(worker["id"]) for worker in workers_of(board)]


async def test_a_router_that_comes_is_joined_and_one_that_goes_is_left(rig: LinkRig, tmp_path: Path) -> None:
    """The run directory's sockets are the list; the streams of the other router never notice."""
    first = await rig.board(socket_of(tmp_path, 0))
    service = EchoService()
    runtime = rig.worker(service, routers=RouterSources(ClusterSettings(run_dir=tmp_path), Role.TTS))
    ref, owner = await rig.opened(first)
    second = await rig.board(socket_of(tmp_path, 1))
    await until(lambda: workers_of(second))
    _, other_owner = await rig.opened(second)
    assert len(runtime.peers) == 2
    before = ids_of(first)
    await second.close()
    assert (await other_owner.until_ended())[:2] == ("lost", "closing")
    await until(lambda: len(runtime.peers) == 1)
    assert ref.send_audio(b"still here")
    await owner.until_told("audio")
    assert ids_of(first) == before
    third = await rig.board(socket_of(tmp_path, 1))
    await until(lambda: workers_of(third))


async def test_a_worker_waits_for_its_first_router(rig: LinkRig, tmp_path: Path) -> None:
    """Nothing is there yet, not even the directory."""
    run_dir = tmp_path / "run"
    rig.worker(routers=RouterSources(ClusterSettings(run_dir=run_dir), Role.TTS))
    board = await rig.board(socket_of(run_dir, 0))
    await until(lambda: workers_of(board))


async def test_a_router_off_the_list_sees_a_drain_and_the_other_one_nothing(rig: LinkRig, tmp_path: Path) -> None:
    """What is open may end; what is new goes elsewhere; then the worker is gone from that router alone."""
    endpoints = [f"ipc://{tmp_path}/a", f"ipc://{tmp_path}/b"]
    a, b = [await rig.board(f"{endpoint}-tts") for endpoint in endpoints]
    file = tmp_path / "routers"
    listing(file, endpoints)
    sources = RouterSources(ClusterSettings(router_endpoints=(f"file://{file}",)), Role.TTS)
    runtime = rig.worker(EchoService(capacity=4), routers=sources)
    ref, owner = await rig.opened(a)
    kept, kept_owner = await rig.opened(b)
    before = ids_of(b)
    listing(file, endpoints[1:])
    await owner.until_told("draining")
    _, refused = rig.open(a, wait_s=0.1)
    assert (await refused.until_ended())[0] == "lost"
    ref.send_audio(b"last words")
    await owner.until_told("audio")
    ref.end()
    assert (await owner.until_ended())[0] == "done"
    await until(lambda: workers_of(a) == [])
    assert len(runtime.peers) == 1
    assert ids_of(b) == before
    kept.end()
    assert (await kept_owner.until_ended())[0] == "done"
    listing(file, endpoints)
    runtime.reload()
    await until(lambda: workers_of(a))


async def test_leaving_has_a_deadline(rig: LinkRig, tmp_path: Path) -> None:
    """A conversation of an hour does not keep a router that the operator has taken off the list."""
    board = await rig.board(f"ipc://{tmp_path}/a-tts")
    file = tmp_path / "routers"
    listing(file, [f"ipc://{tmp_path}/a"])
    sources = RouterSources(ClusterSettings(router_endpoints=(f"file://{file}",)), Role.TTS)
    rig.worker(routers=sources, leave_s=0.2)
    _, owner = await rig.opened(board)
    listing(file, [f"ipc://{tmp_path}/elsewhere"])
    assert await owner.until_ended() == ("lost", "drained", True)
    await until(lambda: workers_of(board) == [])


@pytest.mark.parametrize("text", ["", "# nothing\n", "tcp://a:5600\nrouter-2:5600\n", "tcp://*:5600", "\xff\xfe"])
def test_half_a_list_keeps_the_last_good_one(tmp_path: Path, text: str) -> None:
    """An editor that truncates, a disk that is full, a typing error: nobody is sent away."""
    file = tmp_path / "routers"
    file.write_text("tcp://a:5600  # by the window\n\n  tcp://[::1]:5610\n")
    listed = RouterFile(file, Role.SESSION)
    good = ("tcp://a:5602", "tcp://[::1]:5612")
    assert listed.look() == good
    file.write_bytes(text.encode("latin-1"))
    assert isinstance(read_list(file), str)
    assert listed.look() == good
    file.unlink()
    assert listed.look() == good
    file.write_text("tcp://b:5600\n")
    assert listed.look() == ("tcp://b:5602",)


def test_a_wrong_entry_stops_the_start() -> None:
    """A list in the configuration is checked before anything connects."""
    with pytest.raises(ConfigError, match="tcp://a"):
        RouterSources(ClusterSettings(router_endpoints=("tcp://a",)), Role.TTS)


async def test_a_router_that_is_listed_twice_is_joined_once(rig: LinkRig, tmp_path: Path) -> None:
    """By its name and by its number, say: its pool must not count one worker as two."""
    board = await rig.board(socket_of(tmp_path, 0))
    (tmp_path / "again").symlink_to(tmp_path / "r0-tts")
    runtime = rig.worker(routers=[socket_of(tmp_path, 0), f"ipc://{tmp_path}/again"])
    await until(lambda: len(runtime.peers) == 1)
    await until(lambda: len(workers_of(board)) == 1)


async def test_a_worker_that_is_sent_away_again_and_again_slows_down(rig: LinkRig) -> None:
    """Two clusters of different versions must not drown each other in rejoins."""
    router = rig.bare_router()
    runtime = rig.worker()
    for count in range(1, 4):
        worker = await router.until_joined(count)
        router.say(worker, Kind.LEAVE)
    assert len(router.inboxes) == 3
    assert runtime.active() == 0


async def test_names_are_asked_again_until_they_are_known() -> None:
    """A name server that is late, or a name with two addresses, of which the first is dead."""
    answers: list[list[str] | OSError] = [OSError("no such name"), ["10.0.0.1", "fd00::1"], ["10.0.0.1", "fd00::1"]]
    told: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    addresses = Addresses(resolve, again_s=0.01)
    for count in (1, 2):
        addresses.ask("tcp://routers.example:5600", told.append)
        addresses.ask("tcp://routers.example:5600", told.append)
        await until(lambda count=count: len(told) == count)  # type: ignore[misc]
    assert told == ["tcp://10.0.0.1:5600", "tcp://[fd00::1]:5600"]
    addresses.close()


def test_addresses_take_turns() -> None:
    """Also when the last one is no longer among the answers."""
    assert next_of(["a", "b"], None) == "a"
    assert next_of(["a", "b"], "a") == "b"
    assert next_of(["a", "b"], "b") == "a"
    assert next_of(["c"], "a") == "c"
