"""Streams over real sockets: placing, waiting, failing, ending exactly once."""

from __future__ import annotations

import asyncio
import random

import pytest
from prometheus_client import REGISTRY

from router.pools.stream_ref import StreamRef
from router.pools.switchboard import Switchboard
from shared.ids import Role, StreamId, WorkerId
from shared.link.envelope import Kind
from shared.link.loop_socket import SendOutcome
from shared.link.messages import AsrCredit, Done, Error
from tests.fakes.echo_service import DoneTwice, Echo, EchoOpen, EchoService, Fail, Raise
from tests.fakes.link_rig import LinkRig, until, workers_of
from tests.fakes.recording_owner import RecordingOwner

pytestmark = pytest.mark.link


async def ready(rig: LinkRig, *services: EchoService, capacity: int = 8) -> tuple[Switchboard, EchoService]:
    board = await rig.board()
    used = services or (EchoService(capacity=capacity),)
    for slot, service in enumerate(used):
        rig.worker(service, slot)
    await until(lambda: len(workers_of(board)) == len(used))
    return board, used[0]


async def test_everything_a_stream_carries_arrives_in_order(rig: LinkRig) -> None:
    """Audio, events and credit, both ways, then the one DONE."""
    board, _ = await ready(rig)
    ref, owner = rig.open(board, EchoOpen(burst_frames=2))
    assert ref.is_placed and owner.told == []
    assert ref.send_audio(b"opus")
    ref.send_event(Echo(of={"a": 1}))
    ref.send_credit(AsrCredit(acked=3, trim=1))
    ref.end()
    await owner.until_ended()
    assert owner.told == [
        ("opened",),
        ("audio", b"0"),
        ("audio", b"1"),
        ("audio", b"opus"),
        ("event", {"name": "echo", "of": {"name": "echo", "of": {"a": 1}}}),
        ("credit", {"acked": 3, "trim": 1}),
        ("done", Done(stats={"frames": 1})),
    ]
    assert not ref.is_open
    assert not ref.send_audio(b"late")


async def test_an_open_waits_for_a_worker_and_its_control_follows(rig: LinkRig) -> None:
    """A pool may be empty for a moment; audio is refused until the stream is placed."""
    board = await rig.board()
    assert not board.pools_ready()
    ref, owner = rig.open(board)
    assert ref.is_open and not ref.is_placed and ref.worker is None
    assert not ref.send_audio(b"lost to nobody")
    ref.send_event(Echo(of={"early": True}))
    rig.worker()
    await owner.until_told("event")
    assert owner.names() == ["opened", "event"]
    assert board.pools_ready()


async def test_an_empty_pool_is_no_worker_and_a_full_one_is_busy(rig: LinkRig) -> None:
    """After the time the owner allows; the two are told apart."""
    board = await rig.board()
    _, owner = rig.open(board, wait_s=0.05)
    assert await owner.until_ended() == ("lost", "no_worker", False)
    rig.worker(EchoService(capacity=1))
    await rig.opened(board)
    _, second = rig.open(board, wait_s=0.05)
    assert await second.until_ended() == ("lost", "busy", False)
    _, third = rig.open(board, engine="whisper", wait_s=0)
    assert third.told == []
    assert await third.until_ended() == ("lost", "no_worker", False)


async def test_workers_that_are_unwell_are_not_busy(rig: LinkRig) -> None:
    """A stall is not a crowd: who finds nobody well is apologised to, and is not sent away."""
    board = await rig.board()
    worker = await rig.bare_worker()
    worker.beat(lag_ms=400.0)
    await until(lambda: [one["state"] for one in workers_of(board)] == ["lagging"])
    _, owner = rig.open(board, wait_s=0.05)
    assert await owner.until_ended() == ("lost", "no_worker", False)


async def test_nobody_queues_for_a_full_pool(rig: LinkRig) -> None:
    """Whatever the owner allows: a full pool is busy within half a second, an empty one is worth the wait."""
    board = await rig.board()
    rig.worker(EchoService(capacity=1))
    await rig.opened(board)
    _, late = rig.open(board, wait_s=600)
    assert await late.until_ended() == ("lost", "busy", False)
    _, other = rig.open(board, wait_s=600, engine="whisper")
    await asyncio.sleep(0)
    assert other.told == []


async def test_a_done_serves_the_one_who_waits(rig: LinkRig) -> None:
    """First come, first served."""
    board, _ = await ready(rig, capacity=1)
    first, owner = await rig.opened(board)
    second, second_owner = rig.open(board)
    third, third_owner = rig.open(board)
    first.end()
    await second_owner.until_told("opened")
    assert third_owner.told == [] and not third.is_placed
    second.abort("enough")
    await third_owner.until_told("opened")
    assert owner.names() == ["opened", "done"]
    assert second_owner.names() == ["opened"]


async def test_an_aborted_wait_tells_nothing_and_takes_no_worker(rig: LinkRig) -> None:
    """Nobody is there any more to be told."""
    board = await rig.board()
    ref, owner = rig.open(board)
    ref.abort("gone")
    service = EchoService()
    rig.worker(service)
    await until(lambda: workers_of(board))
    served, served_owner = await rig.opened(board)
    served.end()
    await served_owner.until_ended()
    assert owner.told == [] and len(service.jobs) == 1


async def test_nothing_is_told_after_an_abort(rig: LinkRig) -> None:
    """What the worker has sent meanwhile is stale; its slot is free once it has answered."""
    board, service = await ready(rig)
    ref, owner = rig.open(board, EchoOpen(burst_frames=50))
    ref.abort("barge-in")
    assert not ref.is_open
    await until(lambda: service.aborts == ["barge-in"])
    await until(lambda: workers_of(board)[0]["ours"] == 0)
    assert owner.told == []


async def test_an_abort_inside_a_callback_is_the_last_word(rig: LinkRig) -> None:
    """Owners may do anything from a callback."""
    board, _ = await ready(rig)

    class Fickle(RecordingOwner):
        def on_audio(self, ref: StreamRef, packet: bytes) -> None:
            super().on_audio(ref, packet)
            ref.abort("heard enough")

    owner = Fickle()
    board.open(owner, Role.TTS, EchoOpen(burst_frames=5))
    await owner.until_told("audio")
    await until(lambda: workers_of(board)[0]["ours"] == 0)
    assert owner.names() == ["opened", "audio"]


async def test_a_worker_that_is_full_after_all_is_passed_over(rig: LinkRig) -> None:
    """Its refusal is invisible as long as nothing but the OPEN was sent."""
    board, _ = await ready(rig)
    liar = await rig.bare_worker(capacity=100)
    await until(lambda: len(workers_of(board)) == 2)
    ref, owner = rig.open(board, prefer=liar.id)
    assert ref.worker == liar.id
    [(stream, _, _)] = await liar.inbox.until_has(Kind.OPEN)
    liar.say(Kind.ERROR, stream, Error(code="full", retryable=True, load=100))
    await until(lambda: ref.worker != liar.id)
    assert ref.id > stream
    ref.end()
    await owner.until_ended()
    assert owner.names() == ["opened", "done"]
    assert [worker["load"] for worker in workers_of(board) if worker["id"] == liar.id] == [100]


async def test_a_refusal_after_audio_is_told(rig: LinkRig) -> None:
    """The owner alone can send again what was sent."""
    board, _ = await ready(rig)
    liar = await rig.bare_worker(capacity=100)
    await until(lambda: len(workers_of(board)) == 2)
    ref, owner = rig.open(board, prefer=liar.id)
    ref.send_audio(b"opus")
    [(stream, _, _)] = await liar.inbox.until_has(Kind.OPEN)
    liar.say(Kind.ERROR, stream, Error(code="full", retryable=True, load=100))
    assert await owner.until_ended() == ("lost", "full", True)


async def test_three_refusals_are_enough(rig: LinkRig) -> None:
    """Nobody is sent around the whole pool."""
    board = await rig.board()
    liars = [await rig.bare_worker(slot=slot, boot=f"{slot}") for slot in range(5)]
    await until(lambda: len(workers_of(board)) == 5)
    for liar in liars:
        liar.refuses = True
    _, owner = rig.open(board)
    assert await owner.until_ended() == ("lost", "full", True)
    assert sum(len(liar.inbox.of(Kind.OPEN)) for liar in liars) == 3


async def test_a_workers_error_keeps_its_code(rig: LinkRig) -> None:
    """And says whether another worker may try."""
    board, _ = await ready(rig)
    _, refused = rig.open(board, EchoOpen(refuse="no_model"))
    assert await refused.until_ended() == ("lost", "no_model", True)
    ref, owner = rig.open(board)
    ref.send_event(Echo())
    ref.send_event(Fail())
    assert await owner.until_ended() == ("lost", "asked", False)


async def test_a_job_that_raises_ends_only_itself(rig: LinkRig) -> None:
    """ERROR{internal}; its neighbour goes on; what the exception says is not passed on."""
    board, service = await ready(rig)
    neighbour, neighbour_owner = await rig.opened(board)
    ref, owner = rig.open(board)
    ref.send_event(Raise())
    assert await owner.until_ended() == ("lost", "internal", True)
    await until(lambda: service.aborts == ["internal"])
    neighbour.end()
    assert (await neighbour_owner.until_ended())[0] == "done"


async def test_a_job_that_ends_twice_has_ended_once(rig: LinkRig) -> None:
    """The runtime sees to it."""
    board, _ = await ready(rig)
    ref, owner = rig.open(board)
    ref.send_event(DoneTwice())
    await owner.until_ended()
    after, after_owner = rig.open(board)
    after.end()
    await after_owner.until_ended()
    assert owner.names() == ["opened", "done"]


async def test_a_gap_from_the_worker_fails_the_stream(rig: LinkRig) -> None:
    """Never a silent hole; the worker is told to stop."""
    board = await rig.board()
    worker = await rig.bare_worker()
    ref, owner = await rig.opened(board)
    worker.say(Kind.AUDIO, ref.id, b"0", seq=0)
    worker.say(Kind.AUDIO, ref.id, b"2", seq=2)
    assert await owner.until_ended() == ("lost", "gap", True)
    assert owner.names() == ["opened", "audio", "lost"]
    await worker.inbox.until_has(Kind.ABORT)


async def test_a_worker_cannot_speak_on_anothers_stream(rig: LinkRig) -> None:
    """Nor end it."""
    board = await rig.board()
    owner_worker = await rig.bare_worker(slot=1, boot="owner")
    ref, owner = await rig.opened(board)
    intruder = await rig.bare_worker(slot=2, boot="intruder")
    intruder.say(Kind.DONE, ref.id, Done())
    intruder.say(Kind.AUDIO, StreamId(999), b"x")
    intruder.capacity = 77
    intruder.beat()
    await until(lambda: workers_of(board)[-1]["capacity"] == 77)
    assert owner.names() == ["opened"]
    owner_worker.say(Kind.DONE, ref.id, Done())
    assert (await owner.until_ended())[0] == "done"


async def test_two_processes_in_one_slot_are_two_workers(rig: LinkRig) -> None:
    """Slots are labels."""
    board = await rig.board()
    rig.worker(slot=3)
    rig.worker(slot=3)
    await until(lambda: len(workers_of(board)) == 2)
    assert {worker["slot"] for worker in workers_of(board)} == {3}


async def test_an_outsider_is_told_to_leave(rig: LinkRig) -> None:
    """Anything but a BEAT from an identity that is not in the pool."""
    board = await rig.board()
    stranger = await rig.bare_worker(joins=False)
    await until(lambda: stranger.say(Kind.AUDIO, StreamId(5), b"still here?") is SendOutcome.SENT)
    await stranger.inbox.until_has(Kind.LEAVE)
    assert workers_of(board) == []


async def test_a_silent_worker_loses_its_streams_for_ever(rig: LinkRig) -> None:
    """It answers no PING for three seconds: dead. Whatever it says when it wakes up is answered LEAVE, BEATs too."""
    board = await rig.board()
    worker = await rig.bare_worker()
    ref, owner = await rig.opened(board)
    worker.answers_pings = False
    assert await owner.until_ended() == ("lost", "dead", True)
    await worker.inbox.until_has(Kind.LEAVE, 1)
    worker.say(Kind.DONE, ref.id, Done())
    await worker.inbox.until_has(Kind.LEAVE, 2)
    worker.beat()
    await worker.inbox.until_has(Kind.LEAVE, 3)
    assert workers_of(board) == []
    assert owner.names() == ["opened", "lost"]


async def test_a_stalled_worker_loses_its_streams_but_stays(rig: LinkRig) -> None:
    """Its loop beats, its compute threads hang."""
    board = await rig.board()
    worker = await rig.bare_worker()
    _, owner = await rig.opened(board)
    worker.beat(stalled_ms=3100.0)
    assert await owner.until_ended() == ("lost", "stalled", True)
    await worker.inbox.until_has(Kind.ABORT)
    assert [one["state"] for one in workers_of(board)] == ["lagging"]


async def test_data_for_a_full_worker_fails_its_stream_and_control_waits(rig: LinkRig) -> None:
    """EAGAIN: audio fails at once; control arrives in order when the worker reads again, and nothing overtakes it."""
    board = await rig.board(high_water=20)
    worker = await rig.deaf_worker(high_water=20)
    hog, hog_owner = await rig.opened(board)
    quiet, quiet_owner = await rig.opened(board)
    fill(hog)
    assert hog_owner.ends == []
    quiet.send_event(Echo(of={"n": 1}))
    quiet.send_event(Echo(of={"n": 2}))
    assert not quiet.send_audio(b"may not overtake")
    got: list[tuple[Kind, StreamId]] = []
    async with asyncio.timeout(10):
        while (Kind.ABORT, quiet.id) not in got:
            got += [(kind, stream) for kind, stream in worker.read() if kind in {Kind.EVENT, Kind.ABORT}]
            await asyncio.sleep(0.01)
    assert got == [(Kind.ABORT, hog.id), (Kind.EVENT, quiet.id), (Kind.EVENT, quiet.id), (Kind.ABORT, quiet.id)]
    assert await hog_owner.until_ended() == ("lost", "send", True)
    assert await quiet_owner.until_ended() == ("lost", "send", True)


async def test_a_lane_stuck_for_a_second_is_a_death(rig: LinkRig) -> None:
    """Long before its PINGs are overdue."""
    board = await rig.board(high_water=20)
    await rig.deaf_worker(high_water=20)
    hog, _ = await rig.opened(board)
    quiet, quiet_owner = await rig.opened(board)
    fill(hog)
    for _ in range(40):
        quiet.send_event(Echo(of={"pad": "x" * 60_000}))
    before = stuck_deaths()
    assert await quiet_owner.until_ended() == ("lost", "dead", True)
    assert stuck_deaths() == before + 1
    assert workers_of(board) == []


def stuck_deaths() -> float:
    return REGISTRY.get_sample_value("xz_worker_deaths_total", {"pool": "tts", "cause": "stuck"}) or 0.0


def fill(hog: StreamRef) -> None:
    """Send until the worker's queue is full, which fails this stream."""
    sent = 0
    while hog.send_audio(b"x" * 60_000):
        sent += 1
        assert sent < 5_000


async def test_an_owner_that_raises_harms_nobody_else(rig: LinkRig) -> None:
    """The socket is shared by all."""
    board, _ = await ready(rig)

    class Broken(RecordingOwner):
        def on_audio(self, ref: StreamRef, packet: bytes) -> None:
            super().on_audio(ref, packet)
            raise RuntimeError("bug")

    broken = Broken()
    board.open(broken, Role.TTS, EchoOpen(burst_frames=3))
    ref, owner = rig.open(board, EchoOpen(burst_frames=1))
    ref.end()
    await owner.until_ended()
    assert owner.names() == ["opened", "audio", "done"]
    assert broken.names() == ["opened", "audio", "audio", "audio"]


async def test_closing_ends_every_stream(rig: LinkRig) -> None:
    """Those that wait, too; and later opens are refused."""
    board, _ = await ready(rig, capacity=1)
    _, placed = await rig.opened(board)
    _, waiting = rig.open(board)
    await board.close()
    _, late = rig.open(board)
    for owner in (placed, waiting, late):
        assert await owner.until_ended() == ("lost", "closing", False)


async def test_a_thousand_random_streams_end_exactly_once(rig: LinkRig) -> None:
    """Opens, ends, aborts, errors and bursts in any order: one end each, none for the aborted, and no slot leaks."""
    board, _ = await ready(rig, EchoService(capacity=5), EchoService(capacity=7), EchoService(capacity=1))
    rng = random.Random(20)
    aborted: list[RecordingOwner] = []
    ended: list[RecordingOwner] = []
    for n in range(1_000):
        ref, owner = rig.open(board, EchoOpen(burst_frames=rng.randrange(4)), wait_s=30.0)
        match rng.randrange(5):
            case 0:
                ref.abort("random")
                aborted.append(owner)
                continue
            case 1:
                ref.send_event(DoneTwice())
            case 2:
                ref.send_event(Fail())
            case 3:
                ref.send_event(Raise())
            case _:
                ref.send_event(Echo())
        ref.end()
        ended.append(owner)
        if n % 10 == 0:
            await asyncio.sleep(0)
    for owner in ended:
        await owner.until_ended()
    await until(lambda: sum(worker["ours"] for worker in workers_of(board)) == 0)
    await until(lambda: sum(worker["active"] + worker["reserved"] for worker in workers_of(board)) == 0)
    assert all(len(owner.ends) == 1 and owner.told[-1] == owner.ends[0] for owner in ended if owner.ends)
    assert {owner.ends[0][1] for owner in ended if owner.ends[0][0] == "lost"} <= {"asked", "internal", "busy"}
    assert all(owner.ends == [] for owner in aborted)
    assert board.snapshot()["streams"] == 0


async def test_excluded_workers_are_not_used(rig: LinkRig) -> None:
    """A retry after a death must not land where it died."""
    board, _ = await ready(rig, EchoService(), EchoService())
    first = WorkerId(workers_of(board)[0]["id"])
    refs = [rig.open(board, exclude=frozenset({first}))[0] for _ in range(8)]
    assert {ref.worker for ref in refs} == {workers_of(board)[1]["id"]}
