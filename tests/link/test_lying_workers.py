"""A worker that breaks every rule: its own streams fail, everything is counted, and the others never notice."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
import structlog
from prometheus_client import REGISTRY

from router.pools.stream_ref import StreamRef
from router.pools.switchboard import Switchboard
from shared.errors import WorkerProtocolError
from shared.ids import Role, StreamId
from shared.link.envelope import MAX_BODY_BYTES, PROTO, Kind, pack_head, unpack_head, unpack_map
from shared.link.messages import Beat, Done, ToDevice
from tests.fakes.echo_service import EchoService
from tests.fakes.link_rig import BareWorker, LinkRig, plain_beat, until, workers_of
from tests.fakes.recording_owner import RecordingOwner

pytestmark = pytest.mark.link


def total(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"pool": "tts", **labels}) or 0.0


def dropped(reason: str) -> float:
    return total("xz_link_dropped_total", reason=reason)


@dataclass
class Scene:
    """A liar with a stream of its own, beside an honest worker with one."""

    rig: LinkRig
    board: Switchboard
    liar: BareWorker
    ref: StreamRef
    owner: RecordingOwner
    honest: StreamRef
    honest_owner: RecordingOwner

    @classmethod
    async def set(cls, rig: LinkRig) -> Scene:
        board = await rig.board()
        liar = await rig.bare_worker(slot=1, boot="liar")
        ref, owner = await rig.opened(board)
        rig.worker(EchoService(capacity=4), slot=2)
        await until(lambda: len(workers_of(board)) == 2)
        honest, honest_owner = await rig.opened(board, exclude=frozenset({liar.id}))
        return cls(rig, board, liar, ref, owner, honest, honest_owner)

    async def check_the_others(self) -> None:
        """What was sent before is read by then; the honest worker's stream has lost nothing."""
        for n in range(20):
            assert self.honest.send_audio(b"%d" % n)
        await self.honest_owner.until(lambda: self.honest_owner.names().count("audio") == 20)
        self.honest.end()
        assert (await self.honest_owner.until_ended())[0] == "done"


HUGE = {
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "binary": b"\xc6\xff\xff\xff\xff",
    "text": b"\xdb\xff\xff\xff\xff",
    "extension": b"\xc9\xff\xff\xff\xff\x01",
    "nested arrays": b"\x91" * 60_000,
    "nested maps": b"\x81\xa1x" * 20_000,
    "many small maps": b"\xdd\x00\x00\xea\x60" + b"\x80" * 60_000,
}
"""Small messages that claim to be large, or deep."""


@pytest.mark.parametrize("bomb", HUGE.values(), ids=HUGE)
async def test_a_body_that_explodes_fails_its_own_stream(rig: LinkRig, bomb: bytes) -> None:
    """Nothing is allocated for what is only claimed; depth is bounded by the decoder."""
    scene = await Scene.set(rig)
    scene.liar.say(Kind.EVENT, scene.ref.id, bomb)
    assert await scene.owner.until_ended() == ("lost", "bad_body", False)
    await scene.check_the_others()


@pytest.mark.parametrize("bomb", [*HUGE.values(), b"", b"\xc1"], ids=[*HUGE, "empty", "unused"])
def test_a_head_that_explodes_is_no_head(bomb: bytes) -> None:
    """It is read before anything is known of the sender's rights."""
    with pytest.raises(WorkerProtocolError):
        unpack_head(bomb)


@pytest.mark.parametrize("bomb", HUGE.values(), ids=HUGE)
async def test_a_beat_that_explodes_is_no_beat(rig: LinkRig, bomb: bytes) -> None:
    """Its sender does not join, or stays what it was."""
    scene = await Scene.set(rig)
    before = dropped("malformed")
    scene.liar.link.send(pack_head(Kind.BEAT), bomb)
    scene.liar.link.send(bomb[:1000], b"")
    await until(lambda: flushed(scene, "malformed") == before + 2)
    await scene.check_the_others()


def flushed(scene: Scene, reason: str) -> float:
    for link in scene.board._links.values():
        link.flush_metrics()
    return dropped(reason)


async def test_a_gap_fails_the_stream_that_has_it(rig: LinkRig) -> None:
    """And is counted."""
    scene = await Scene.set(rig)
    before = dropped("gap")
    scene.liar.say(Kind.AUDIO, scene.ref.id, b"x", seq=7)
    assert await scene.owner.until_ended() == ("lost", "gap", True)
    assert dropped("gap") == before + 1
    await scene.check_the_others()


@pytest.mark.parametrize("seq", [2**63, 2**64 - 1])
async def test_numbers_beyond_every_stream_are_only_numbers(rig: LinkRig, seq: int) -> None:
    """Of streams and of messages."""
    scene = await Scene.set(rig)
    before = dropped("stale")
    scene.liar.say(Kind.AUDIO, StreamId(seq), b"x", seq=seq)
    await until(lambda: dropped("stale") == before + 1)
    assert scene.owner.names() == ["opened"]
    await scene.check_the_others()


@pytest.mark.parametrize("kind", [Kind.AUDIO, Kind.EVENT, Kind.CREDIT, Kind.DONE, Kind.ERROR, Kind.OPEN, Kind.PING])
async def test_nothing_can_be_said_on_anothers_stream(rig: LinkRig, kind: Kind) -> None:
    """Nor can it be ended, whoever guesses its number."""
    scene = await Scene.set(rig)
    before = dropped("wrong_worker")
    scene.liar.say(kind, scene.honest.id, Done(), seq=0)
    await until(lambda: dropped("wrong_worker") == before + 1)
    assert scene.honest_owner.names() == ["opened"]
    await scene.check_the_others()


async def test_a_body_over_the_limit_is_no_message(rig: LinkRig) -> None:
    """Senders refuse 64 KiB and more; what comes all the same is not passed on, and leaves a gap."""
    scene = await Scene.set(rig)
    before = dropped("malformed")
    scene.liar.say(Kind.AUDIO, scene.ref.id, b"x" * MAX_BODY_BYTES)
    await scene.owner.until_told("audio")
    scene.liar.say(Kind.AUDIO, scene.ref.id, b"x" * (MAX_BODY_BYTES + 1))
    scene.liar.say(Kind.AUDIO, scene.ref.id, b"next")
    assert await scene.owner.until_ended() == ("lost", "gap", True)
    assert scene.owner.names().count("audio") == 1
    assert flushed(scene, "malformed") == before + 1
    await scene.check_the_others()


async def test_unknown_kinds_are_counted_and_cost_the_stream_nothing(rig: LinkRig) -> None:
    """A newer worker may know more."""
    scene = await Scene.set(rig)
    before = total("xz_link_unknown_kind_total")
    scene.liar.link.send(b"\x93\x63" + msgpack.packb(scene.ref.id) + b"\x00", b"?")
    scene.liar.say(Kind.AUDIO, scene.ref.id, b"known", seq=1)
    assert await scene.owner.until_told("audio") == ("audio", b"known")
    assert total("xz_link_unknown_kind_total") == before + 1
    await scene.check_the_others()


ABSURD: list[dict[str, Any]] = [
    {"capacity": -1}, {"capacity": 10**12}, {"active": -5}, {"active": 10**12}, {"opened": -1}, {"opened": 2**63},
    {"lag_ms": math.nan}, {"lag_ms": math.inf}, {"stalled_ms": -math.inf}, {"stalled_ms": -1.0}, {"slot": -1},
    {"slot": 10**9}, {"metrics_port": 70_000}, {"metrics_port": -1}, {"proto": -1}, {"pid": -1}, {"epoch": 2**60},
    {"host": "h" * 60_000}, {"incarnation": "i" * 60_000},
]  # fmt: skip


@pytest.mark.parametrize("change", ABSURD, ids=lambda change: next(iter(change)))
def test_absurd_numbers_are_no_beat(change: dict[str, Any]) -> None:
    """They would go into placement, into metrics and onto the operator's screen."""
    good = plain_beat(slot=1, capacity=4).to_map()
    assert Beat.from_map(good)
    with pytest.raises(WorkerProtocolError):
        Beat.from_map(good | change)


async def test_a_member_that_begins_to_lie_about_itself_stays_what_it_was(rig: LinkRig) -> None:
    """And, saying nothing believable any more, is dead like one that says nothing."""
    scene = await Scene.set(rig)
    scene.liar.answers_pings = False
    before = dropped("malformed")
    for change in ({"capacity": 10**12}, {"active": -5}):
        packed = msgpack.packb(plain_beat(slot=1, capacity=4).to_map() | change)
        scene.liar.link.send(pack_head(Kind.BEAT), packed)
    await until(lambda: flushed(scene, "malformed") >= before + 2)
    [told] = [worker for worker in workers_of(scene.board) if worker["slot"] == 1]
    assert (told["capacity"], told["load"]) == (4, 1)
    await scene.check_the_others()
    assert await scene.owner.until_ended() == ("lost", "dead", True)


async def test_opens_it_never_received_make_no_room(rig: LinkRig) -> None:
    """`opened` in a BEAT is believed no further than what was sent."""
    scene = await Scene.set(rig)
    scene.liar.opened = 10**9
    scene.liar.beat()
    await until(lambda: all(worker["reserved"] == 0 for worker in workers_of(scene.board)))
    [told] = [worker for worker in workers_of(scene.board) if worker["slot"] == 1]
    assert told["load"] >= 1
    await scene.check_the_others()


@pytest.mark.parametrize("proto", [PROTO - 1, PROTO, PROTO + 1])
async def test_neighbouring_versions_work_together(rig: LinkRig, proto: int) -> None:
    """A cluster is upgraded one process at a time."""
    board = await rig.board()
    worker = await rig.bare_worker(joins=False)
    await worker.join(proto=proto)
    await until(lambda: workers_of(board))


@pytest.mark.parametrize("change", [{"proto": PROTO + 2}, {"role": "asr"}], ids=["version", "role"])
async def test_who_does_not_belong_is_told_so_and_named_once(rig: LinkRig, change: dict[str, Any]) -> None:
    """Another pool, or a version that is too far from ours."""
    board = await rig.board()
    worker = await rig.bare_worker(joins=False)
    before = total("xz_pool_rejects_total", reason="unwelcome"), total("xz_link_proto_refused_total")
    with structlog.testing.capture_logs() as logs:
        await worker.join(**change)
        for count in range(1, 6):
            await worker.inbox.until_has(Kind.LEAVE, count)
            worker.beat(**change)
        await worker.inbox.until_has(Kind.LEAVE, 6)
    assert workers_of(board) == []
    assert total("xz_pool_rejects_total", reason="unwelcome") == before[0] + 6
    assert total("xz_link_proto_refused_total") == before[1] + (6 if "proto" in change else 0)
    assert [line["log_level"] for line in logs if line["event"] == "worker_unwelcome"] == ["warning"]


async def test_a_member_that_becomes_unwelcome_is_no_member(rig: LinkRig) -> None:
    """Its streams are lost, once."""
    scene = await Scene.set(rig)
    scene.liar.answers_pings = False
    scene.liar.beat(proto=PROTO + 9)
    assert await scene.owner.until_ended() == ("lost", "dead", True)
    assert [worker["slot"] for worker in workers_of(scene.board)] == [2]
    await scene.check_the_others()


async def test_an_unwelcome_worker_comes_back_more_and_more_slowly(rig: LinkRig) -> None:
    """Each time under a new identity, which the router must not be drowned in."""
    board = await rig.board()
    before = total("xz_pool_rejects_total", reason="unwelcome")
    rig.worker(EchoService(role=Role.ASR))
    await until(lambda: total("xz_pool_rejects_total", reason="unwelcome") >= before + 3)
    await asyncio.sleep(0.4)
    assert total("xz_pool_rejects_total", reason="unwelcome") <= before + 30, "without a pause it would be hundreds"
    assert workers_of(board) == []


async def test_a_flood_of_nonsense_starves_nobody(rig: LinkRig) -> None:
    """The loop reads in portions: other sockets, timers and the honest worker get their turn between them."""
    scene = await Scene.set(rig)
    words: list[Callable[[int], object]] = [
        lambda n: scene.liar.say(Kind.AUDIO, StreamId(10**6 + n), b"x" * 200),
        lambda n: scene.liar.say(Kind.DONE, scene.honest.id, Done(), seq=n),
        lambda n: scene.liar.link.send(b"\xc1", b"x"),
        lambda n: scene.liar.link.send(pack_head(Kind.BEAT), b"\xc1"),
    ]
    for n in range(4_000):
        words[n % len(words)](n)
    await scene.check_the_others()
    assert len(workers_of(scene.board)) == 2


@pytest.mark.parametrize("value", [b"x", msgpack.ExtType(1, b"x"), {1: 2}, "deep"], ids=["bytes", "ext", "key", "deep"])
def test_what_json_cannot_say_is_no_message_for_a_device(value: Any) -> None:
    """It would break the router while it carries out a decision, not the stream of the worker that sent it."""
    message: dict[str, Any] = {"type": "mcp", "payload": value}
    if value == "deep":
        for _ in range(900):
            message = {"payload": message}
    packed = msgpack.packb({"name": "to_device", "message": message})
    with pytest.raises(WorkerProtocolError):
        ToDevice.from_map(unpack_map(packed) if value != {1: 2} else {"message": message})
    assert ToDevice.from_map({"message": {"type": "mcp", "payload": {"a": [1, None, "x", 0.5]}}})


def test_deep_bodies_within_the_decoders_limit_are_maps() -> None:
    """What is passed on is at most as deep as the decoder's stack: its reader must be ready for that."""
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert unpack_map(msgpack.packb({"message": deep}))["message"] == deep
