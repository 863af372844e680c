"""A worker's side of the link, against a router that says only what the test tells it to."""

from __future__ import annotations

import asyncio

import pytest

from router.pools.switchboard import Switchboard
from shared.ids import Role, WorkerId
from shared.link.envelope import Kind, unpack_map
from shared.link.messages import Abort, AsrCredit
from shared.worker.runtime import WorkerRuntime
from tests.fakes.echo_service import EchoOpen, EchoService
from tests.fakes.link_rig import BareRouter, LinkRig, until, workers_of
from tests.fakes.recording_owner import RecordingOwner

pytestmark = pytest.mark.link


async def joined(rig: LinkRig, service: EchoService) -> tuple[BareRouter, WorkerRuntime, WorkerId]:
    router = rig.bare_router()
    runtime = rig.worker(service)
    return router, runtime, await router.until_joined()


def beats(router: BareRouter, worker: WorkerId) -> list[dict[str, object]]:
    return [unpack_map(body) for _, _, body in router.inboxes[worker].of(Kind.BEAT)]


async def test_the_first_beat_comes_with_the_connection(rig: LinkRig) -> None:
    """Whoever starts first: nobody waits for the next interval."""
    runtime = rig.worker()
    await asyncio.sleep(0.05)
    router = rig.bare_router()
    worker = await router.until_joined()
    assert worker == runtime.peers[0].identity
    assert beats(router, worker)[0]["capacity"] == 8


async def test_each_ping_is_answered_at_once(rig: LinkRig) -> None:
    """With the present load."""
    router, _, worker = await joined(rig, EchoService())
    router.open(worker, 1)
    for n in range(5):
        before = len(beats(router, worker))
        router.ping(worker)
        await router.inboxes[worker].until_has(Kind.BEAT, before + 1)
        assert n == 0 or beats(router, worker)[-1]["active"] == 1
    assert beats(router, worker)[-1]["opened"] == 1


async def test_a_gap_from_the_router_fails_the_stream(rig: LinkRig) -> None:
    """And frees what the job held."""
    service = EchoService()
    router, _, worker = await joined(rig, service)
    router.open(worker, 1)
    router.say(worker, Kind.AUDIO, 1, 2, b"frame 1 is missing")
    error = await router.until_answered(worker, Kind.ERROR)
    assert (error["code"], error["retryable"]) == ("gap", True)
    await until(lambda: service.aborts == ["gap"])
    assert service.jobs[0].frames == 0


async def test_an_open_that_comes_again_opens_nothing(rig: LinkRig) -> None:
    """Also when the stream has ended meanwhile: ids are never reused, so it is the same OPEN, repeated on the way."""
    service = EchoService()
    router, _, worker = await joined(rig, service)
    router.open(worker, 1)
    router.say(worker, Kind.END, 1, 1)
    await router.until_answered(worker, Kind.DONE)
    router.open(worker, 1)
    router.open(worker, 2)
    router.say(worker, Kind.END, 2, 1)
    await router.inboxes[worker].until_has(Kind.DONE, 2)
    assert len(service.jobs) == 2
    router.ping(worker)
    await until(lambda: beats(router, worker)[-1]["opened"] == 2)


async def test_an_abort_is_answered_once_and_silences_the_job(rig: LinkRig) -> None:
    """DONE{aborted}; what the job still says is dropped."""
    service = EchoService()
    router, _, worker = await joined(rig, service)
    router.open(worker, 1)
    router.say(worker, Kind.ABORT, 1, 1, Abort(reason="barge-in"))
    router.say(worker, Kind.ABORT, 1, 2, Abort(reason="again"))
    done = await router.until_answered(worker, Kind.DONE)
    assert done["aborted"] is True
    stream = service.jobs[0].stream
    assert not stream.is_open
    stream.audio(b"late")
    stream.credit(AsrCredit(acked=1, trim=1))
    stream.done()
    stream.error("late")
    await asyncio.sleep(0)
    router.open(worker, 2)
    router.say(worker, Kind.END, 2, 1)
    await router.until_answered(worker, Kind.DONE, 2)
    assert [kind for kind, stream_id, _, _ in router.inboxes[worker].messages if stream_id == 1] == [Kind.DONE]
    assert service.aborts == ["barge-in"]


async def test_the_runtime_refuses_what_is_over_capacity(rig: LinkRig) -> None:
    """The service is never asked; the ERROR carries the load."""
    service = EchoService(capacity=1)
    router, _, worker = await joined(rig, service)
    router.open(worker, 1)
    router.open(worker, 2)
    error = await router.until_answered(worker, Kind.ERROR)
    assert (error["code"], error["load"], error["retryable"]) == ("full", 1, True)
    assert len(service.jobs) == 1


async def test_a_repeated_open_is_ignored(rig: LinkRig) -> None:
    """Stream ids are never reused, so a second OPEN is an error of the router."""
    service = EchoService()
    router, _, worker = await joined(rig, service)
    for _ in range(2):
        router.open(worker, 1)
    router.say(worker, Kind.END, 1, 1)
    await router.until_answered(worker, Kind.DONE)
    assert len(service.jobs) == 1


async def test_leave_aborts_the_streams_and_a_new_identity_joins(rig: LinkRig) -> None:
    """The slot and the incarnation stay, the identity does not."""
    service = EchoService()
    router, runtime, worker = await joined(rig, service)
    router.open(worker, 1)
    await until(lambda: service.jobs)
    router.say(worker, Kind.LEAVE)
    again = await router.until_joined(2)
    assert again != worker
    assert service.aborts == ["leave"]
    assert runtime.active() == 0
    await until(lambda: beats(router, again))
    first, second = beats(router, worker)[0], beats(router, again)[0]
    assert first["incarnation"] == second["incarnation"] and first["slot"] == second["slot"]
    assert second["opened"] == 0


async def test_another_life_of_the_router_drops_the_old_streams(rig: LinkRig) -> None:
    """Told by router_boot in PING; streams of the new life are served."""
    service = EchoService()
    router, runtime, worker = await joined(rig, service)
    router.ping(worker, "first")
    router.open(worker, 1)
    router.ping(worker, "first")
    router.ping(worker, "second")
    await until(lambda: service.aborts == ["router_restarted"])
    assert runtime.active() == 0
    router.open(worker, 1)
    router.say(worker, Kind.END, 1, 1)
    await router.until_answered(worker, Kind.DONE)


async def test_a_router_that_falls_silent_is_left(rig: LinkRig) -> None:
    """Five seconds without a word: its streams are cancelled, and a new identity tries again."""
    service = EchoService()
    router, runtime, worker = await joined(rig, service)
    router.ping(worker)
    router.open(worker, 1)
    assert await router.until_joined(2) != worker
    assert service.aborts == ["silent"]
    assert runtime.active() == 0


async def test_unknown_kinds_are_ignored(rig: LinkRig) -> None:
    """A newer router may know more."""
    router, _, worker = await joined(rig, EchoService())
    router.open(worker, 1)
    router.link.send(worker, b"\x93\x63\x01\x01", b"?")
    router.say(worker, Kind.END, 1, 1)
    await router.until_answered(worker, Kind.DONE)


@pytest.mark.parametrize("body", [b"\xc1", b"\x01", b"\x81\x01\x02"])
async def test_a_body_that_is_no_map_fails_its_stream(rig: LinkRig, body: bytes) -> None:
    """In OPEN and in EVENT; not retryable, for it would fail anywhere."""
    router, runtime, worker = await joined(rig, EchoService())
    router.open(worker, 1, body)
    router.open(worker, 2)
    router.say(worker, Kind.EVENT, 2, 1, body)
    await router.until_answered(worker, Kind.ERROR, 2)
    errors = [unpack_map(packed) for _, _, packed in router.inboxes[worker].of(Kind.ERROR)]
    assert [(error["code"], error["retryable"]) for error in errors] == [("bad_body", False)] * 2
    assert runtime.active() == 0


async def test_a_restarted_router_gets_its_workers_back(rig: LinkRig) -> None:
    """Without anybody restarting them."""
    service = EchoService()
    board = await rig.board()
    rig.worker(service)
    _, owner = await rig.opened(board)
    await board.close()
    assert owner.ends == [("lost", "closing", False)]
    second = await rig.board()
    ref, owner = await rig.opened(second)
    ref.end()
    assert (await owner.until_ended())[0] == "done"
    assert len(workers_of(second)) == 1


async def test_a_drain_finishes_what_is_open_and_takes_nothing_new(rig: LinkRig) -> None:
    """The router hears of it at once; the owner of a stream is told; another worker takes the next one."""
    board = await rig.board()
    old = rig.worker(EchoService(), slot=0)
    ref, owner = rig.open(board, EchoOpen(burst_frames=1))
    await owner.until_told("audio")
    assert not ref.is_draining
    draining = asyncio.create_task(old.drain(10.0))
    await owner.until_told("draining")
    assert ref.is_draining
    rig.worker(EchoService(), slot=1)
    other, _ = await rig.opened(board)
    assert other.worker != ref.worker
    ref.end()
    await draining
    assert (await owner.until_ended())[0] == "done"
    assert old.active() == 0


async def test_an_open_that_meets_a_drain_goes_elsewhere(rig: LinkRig) -> None:
    """The OPEN and the draining BEAT may cross."""
    board = await rig.board()
    old, new = rig.worker(EchoService(), slot=0), rig.worker(EchoService(), slot=1)
    await until(lambda: len(workers_of(board)) == 2)
    old.is_draining = True
    ref, owner = rig.open(board, prefer=old.peers[0].identity)
    await until(lambda: ref.worker == new.peers[0].identity)
    ref.end()
    assert (await owner.until_ended())[0] == "done"
    assert owner.names().count("opened") == 1


async def test_a_drain_ends_at_its_deadline(rig: LinkRig) -> None:
    """What is left fails, retryable, and its job is told."""
    board = await rig.board()
    service = EchoService()
    runtime = rig.worker(service)
    _, owner = rig.open(board, EchoOpen(burst_frames=1))
    await owner.until_told("audio")
    await runtime.drain(0.05)
    assert await owner.until_ended() == ("lost", "drained", True)
    await until(lambda: service.aborts == ["drained"])


async def test_a_drain_without_streams_is_over_at_once(rig: LinkRig) -> None:
    """Nothing to wait for."""
    runtime = rig.worker(EchoService())
    await asyncio.wait_for(runtime.drain(60.0), 5)


async def test_many_streams_must_all_end(rig: LinkRig) -> None:
    """A drain does not stop at the first stream that ends."""
    board = await rig.board()
    runtime = rig.worker(EchoService())
    refs = [rig.open(board, EchoOpen(burst_frames=1)) for _ in range(3)]
    for _, owner in refs:
        await owner.until_told("audio")
    draining = asyncio.create_task(runtime.drain(10.0))
    for ref, owner in refs[:2]:
        ref.end()
        await owner.until_ended()
    assert not draining.done()
    refs[2][0].end()
    await draining


async def test_one_worker_serves_two_routers(rig: LinkRig) -> None:
    """Its capacity is shared; each router sees the streams of both."""
    endpoints = [rig.endpoint, rig.endpoint.replace("r0", "r1")]
    boards = [Switchboard({Role.TTS: endpoint}) for endpoint in endpoints]
    for board in boards:
        await board.start()
        rig.boards.append(board)
    runtime = WorkerRuntime(EchoService(capacity=2), endpoints, slot=0, context=rig.context)
    runtime.join()
    owners = [RecordingOwner() for _ in boards]
    refs = [board.open(owner, Role.TTS, EchoOpen()) for board, owner in zip(boards, owners, strict=True)]
    for owner in owners:
        await owner.until_told("opened")
    await until(lambda: all(workers_of(board)[0]["active"] == 2 for board in boards))
    assert all(worker["ours"] == 1 for board in boards for worker in workers_of(board))
    late = RecordingOwner()
    boards[1].open(late, Role.TTS, EchoOpen(), wait_s=0.02)
    assert await late.until_ended() == ("lost", "busy", False)
    await boards[0].close()
    await until(lambda: runtime.active() == 1)
    refs[1].end()
    assert (await owners[1].until_ended())[0] == "done"
    runtime.close(0)
