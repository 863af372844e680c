"""Membership, load and placement of one pool."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.pools.pool import BeatNews, Pool, Shortage, State, Wish
from shared.ids import Role, StreamId, WorkerId
from shared.link.envelope import PROTO
from shared.link.messages import Beat

pytestmark = pytest.mark.unit


def beat(slot: int = 0, **changes: object) -> Beat:
    plain = Beat(
        role="asr",
        incarnation="00",
        slot=slot,
        capacity=4,
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
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def name(slot: int) -> WorkerId:
    return WorkerId(f"asr-{slot:02d}.boot")


def pool_of(count: int, **changes: object) -> Pool:
    pool = Pool(Role.ASR, random.Random(7).randrange)
    for slot in range(count):
        pool.on_beat(name(slot), beat(slot, **changes), 0.0)
    return pool


def open_on(pool: Pool, worker: WorkerId, *streams: int) -> None:
    for stream in streams:
        pool.on_opened(worker, StreamId(stream))


def load(pool: Pool, slot: int) -> int:
    worker = pool.get(name(slot))
    assert worker is not None
    return worker.load


def state(pool: Pool, slot: int) -> State:
    worker = pool.get(name(slot))
    assert worker is not None
    return worker.state


# Membership


def test_the_first_beat_is_the_join() -> None:
    """Later ones only bring news."""
    pool = Pool(Role.ASR, random.randrange)
    assert not pool.has_had_worker
    assert pool.on_beat(name(0), beat(), 0.0) is BeatNews.JOINED
    assert pool.on_beat(name(0), beat(), 0.5) is BeatNews.KNOWN
    assert pool.has_had_worker


def test_dead_is_final() -> None:
    """A removed identity is answered LEAVE for ever; a new one of the same slot is welcome."""
    pool = pool_of(1)
    assert pool.remove(name(0)) is not None
    assert pool.remove(name(0)) is None
    assert not pool.on_heard(name(0), 1.0)
    assert pool.on_beat(name(0), beat(), 1.0) is BeatNews.DEAD
    assert pool.on_beat(WorkerId("asr-00.next"), beat(), 1.0) is BeatNews.JOINED
    assert pool.has_had_worker


def test_a_slot_used_twice_is_no_reason_to_refuse() -> None:
    """Slots are labels."""
    pool = pool_of(1)
    assert pool.on_beat(WorkerId("asr-00.twin"), beat(), 0.0) is BeatNews.JOINED
    assert len(pool) == 2


@pytest.mark.parametrize("proto", [PROTO - 1, PROTO + 1])
def test_neighbouring_protocols_work_together(proto: int) -> None:
    """So that a rolling upgrade is possible."""
    assert Pool(Role.ASR, random.randrange).on_beat(name(0), beat(proto=proto), 0.0) is BeatNews.JOINED


@pytest.mark.parametrize("stranger", [beat(proto=PROTO + 2), beat(role="tts")])
def test_strangers_do_not_join(stranger: Beat) -> None:
    """Another role or a distant protocol."""
    pool = Pool(Role.ASR, random.randrange)
    assert pool.on_beat(name(0), stranger, 0.0) is BeatNews.UNWELCOME
    assert len(pool) == 0


def test_draining_and_stalling_are_told_once() -> None:
    """News are edges, not levels."""
    pool = pool_of(1)
    assert pool.on_beat(name(0), beat(stalled_ms=3001), 1.0) is BeatNews.STALLED
    assert pool.on_beat(name(0), beat(stalled_ms=3501), 1.5) is BeatNews.KNOWN
    assert pool.on_beat(name(0), beat(draining=True), 2.0) is BeatNews.DRAINING
    assert pool.on_beat(name(0), beat(draining=True), 2.5) is BeatNews.KNOWN


def test_a_silent_worker_is_suspect_then_dead() -> None:
    """Only judged if it was pinged."""
    pool = pool_of(2)
    for now in (0.0, 1.0, 2.0):
        pool.on_pinged(name(0), now)
    assert pool.judge(2.1) == []
    assert state(pool, 0) is State.SUSPECT
    assert pool.judge(3.0) == [name(0)]


def test_a_suspect_that_is_heard_is_ready_again() -> None:
    """Any message counts."""
    pool = pool_of(1)
    for now in (0.0, 1.0):
        pool.on_pinged(name(0), now)
    pool.judge(2.5)
    assert pool.place(Wish()) is Shortage.FULL
    assert pool.on_heard(name(0), 2.6)
    assert pool.place(Wish()) == name(0)


def test_our_own_stall_kills_nobody() -> None:
    """Forgiving starts everybody anew."""
    pool = pool_of(3)
    for slot in range(3):
        for now in (0.0, 1.0, 2.0):
            pool.on_pinged(name(slot), now)
    pool.forgive(60.0)
    assert pool.judge(60.0) == []


def test_workers_with_live_streams_are_pinged_four_times_as_often() -> None:
    """A closed socket must be noticed while somebody listens."""
    pool = pool_of(2)
    open_on(pool, name(1), 1)
    for slot in range(2):
        pool.on_pinged(name(slot), 10.0)
    assert pool.pings_due(10.25) == [name(1)]
    assert pool.pings_due(11.0) == [name(0), name(1)]


# Load


def test_an_open_is_reserved_until_a_beat_counts_it() -> None:
    """The same stream is never counted twice, nor not at all."""
    pool = pool_of(1)
    open_on(pool, name(0), 1, 2)
    assert load(pool, 0) == 2
    pool.on_beat(name(0), beat(active=1, opened=1), 1.0)
    assert load(pool, 0) == 2
    pool.on_beat(name(0), beat(active=2, opened=2), 1.5)
    assert load(pool, 0) == 2


def test_streams_of_other_routers_count() -> None:
    """They are in `active` only."""
    pool = pool_of(1, active=3)
    assert load(pool, 0) == 3
    open_on(pool, name(0), 1)
    assert load(pool, 0) == 4
    assert pool.place(Wish()) is Shortage.FULL


def test_a_worker_known_to_another_life_of_ours_counts_from_its_first_beat() -> None:
    """`opened` may be above zero at the join."""
    pool = pool_of(1, opened=17)
    open_on(pool, name(0), 1)
    assert load(pool, 0) == 1
    pool.on_beat(name(0), beat(opened=18, active=1), 1.0)
    assert load(pool, 0) == 1


def test_a_terminator_frees_one_slot_once() -> None:
    """Whether a BEAT has counted the stream or not."""
    pool = pool_of(1)
    open_on(pool, name(0), 1, 2)
    pool.on_beat(name(0), beat(active=1, opened=1), 1.0)
    assert pool.on_ended(name(0), StreamId(1))
    assert not pool.on_ended(name(0), StreamId(1))
    assert load(pool, 0) == 1
    assert pool.on_ended(name(0), StreamId(2))
    assert load(pool, 0) == 0


def test_an_aborted_stream_holds_its_slot_until_the_worker_says_done() -> None:
    """A stuck engine cannot be over-admitted, whatever its BEATs say."""
    pool = pool_of(1, capacity=1)
    open_on(pool, name(0), 1)
    pool.on_beat(name(0), beat(capacity=1, active=0, opened=1), 1.0)
    assert pool.place(Wish()) is Shortage.FULL
    pool.on_ended(name(0), StreamId(1))
    assert pool.place(Wish()) == name(0)


def test_a_refusal_corrects_the_load_until_the_next_beat() -> None:
    """The worker is the authority."""
    pool = pool_of(1)
    open_on(pool, name(0), 1)
    pool.on_ended(name(0), StreamId(1))
    pool.on_refused(name(0), load=4)
    assert load(pool, 0) == 4
    pool.on_beat(name(0), beat(active=1, opened=1), 1.0)
    assert load(pool, 0) == 1


def test_an_open_that_was_not_sent_reserves_nothing() -> None:
    """The peer was gone."""
    pool = pool_of(1)
    open_on(pool, name(0), 1)
    pool.on_unsent(name(0), StreamId(1))
    assert load(pool, 0) == 0


# Placement


def test_an_empty_pool_is_not_a_full_one() -> None:
    """People are told different things."""
    assert pool_of(0).place(Wish()) is Shortage.EMPTY
    assert pool_of(2, active=4).place(Wish()) is Shortage.FULL
    assert pool_of(0).place(Wish()) is Shortage.EMPTY


def test_the_only_worker_is_asked_again_although_it_failed() -> None:
    """Excluded workers come last, not never: one that has failed a job once is better than nobody."""
    assert pool_of(1).place(Wish(exclude=frozenset({name(0)}))) == name(0)
    assert pool_of(2).place(Wish(exclude=frozenset({name(0)}))) == name(1)


@pytest.mark.parametrize("other", [{"active": 4}, {"lag_ms": 300.0}, {"draining": True}])
def test_who_has_failed_is_better_than_one_who_takes_nothing(other: dict[str, object]) -> None:
    """An exclusion must not make a stream wait while the excluded worker has room."""
    pool = pool_of(1)
    pool.on_beat(name(1), beat(1, **other), 0.0)
    assert pool.place(Wish(exclude=frozenset({name(0)}))) == name(0)
    assert pool_of(1).place(Wish(engine="other")) is Shortage.EMPTY


def test_of_two_draws_the_less_loaded_is_taken() -> None:
    """With two workers both are drawn."""
    pool = pool_of(2)
    pool.on_beat(name(0), beat(0, active=2), 0.1)
    assert {pool.place(Wish()) for _ in range(50)} == {name(1)}


def test_two_random_choices_level_the_load() -> None:
    """Far better than one random choice would."""
    pool = pool_of(10, capacity=1000)
    for stream in range(1000):
        worker = pool.place(Wish())
        assert not isinstance(worker, Shortage)
        open_on(pool, worker, stream)
    loads = [load(pool, slot) for slot in range(10)]
    assert sum(loads) == 1000
    assert max(loads) - min(loads) <= 12


@pytest.mark.parametrize("bad", [{"draining": True}, {"lag_ms": 300.0}, {"stalled_ms": 600.0}])
def test_unsteady_workers_get_nothing_new(bad: dict[str, object]) -> None:
    """Draining or lagging."""
    pool = pool_of(2)
    pool.on_beat(name(0), beat(0, **bad), 0.1)
    assert {pool.place(Wish()) for _ in range(20)} == {name(1)}


def test_a_preferred_worker_is_taken_while_it_has_room() -> None:
    """Jobs of one turn stay together, but not at any price."""
    pool = pool_of(3)
    assert {pool.place(Wish(prefer=name(2))) for _ in range(20)} == {name(2)}
    pool.on_beat(name(2), beat(2, active=4), 0.1)
    assert name(2) not in {pool.place(Wish(prefer=name(2))) for _ in range(20)}


def test_engines_are_a_capability() -> None:
    """Only a worker that lists the engine gets the stream."""
    pool = pool_of(3)
    pool.on_beat(name(1), beat(1, caps={"engines": ["echo", "whisper"]}), 0.1)
    pool.on_beat(name(2), beat(2, caps={}), 0.1)
    assert {pool.place(Wish(engine="whisper")) for _ in range(20)} == {name(1)}
    assert name(2) not in {pool.place(Wish(engine="echo")) for _ in range(20)}
    assert name(2) in {pool.place(Wish()) for _ in range(50)}


def test_a_device_keeps_its_worker_across_routers_and_restarts() -> None:
    """The preference hangs on host and slot, not on the identity of one life."""
    one, other = pool_of(5), Pool(Role.ASR, random.randrange)
    for slot in reversed(range(5)):
        other.on_beat(WorkerId(f"asr-{slot:02d}.another-life"), beat(slot), 0.0)
    for n in range(50):
        wish = Wish(key=f"device {n}")
        here, there = one.place(wish), other.place(wish)
        assert isinstance(here, str) and isinstance(there, str)
        assert here.split(".")[0] == there.split(".")[0]


def test_a_lost_worker_moves_only_its_own_devices() -> None:
    """Rendezvous hashing."""
    pool = pool_of(5)
    before = {n: pool.place(Wish(key=f"device {n}")) for n in range(200)}
    pool.remove(name(3))
    moved = {n for n in before if pool.place(Wish(key=f"device {n}")) != before[n]}
    assert moved == {n for n in before if before[n] == name(3)}
    assert 15 < len(moved) < 70


def test_repr_tells_state_and_load() -> None:
    """Good enough to log on failure."""
    pool = pool_of(1)
    open_on(pool, name(0), 1)
    assert repr(pool) == "Pool(asr, [Worker(asr-00.boot, ready, 1/4, 1 ours)])"


@settings(deadline=None)
@given(st.data())
def test_random_walk_of_a_real_worker_never_over_admits(data: st.DataObject) -> None:
    """With any delays on the lane: a worker never gets more than its capacity, and load returns to zero.

    The model is a worker that reads its lane in order and answers in order; the walk chooses who moves next.
    """
    pool = pool_of(1)
    to_worker: list[int] = []
    to_router: list[tuple[str, int, int]] = []
    at_worker: list[int] = []
    opened = 0
    minted = 0
    for move in data.draw(st.lists(st.sampled_from(["open", "read", "finish", "beat", "hear"]), max_size=80)):
        if move == "open" and pool.place(Wish()) == name(0):
            minted += 1
            open_on(pool, name(0), minted)
            to_worker.append(minted)
        elif move == "read" and to_worker:
            at_worker.append(to_worker.pop(0))
            opened += 1
            assert len(at_worker) <= 4
        elif move == "finish" and at_worker:
            to_router.append(("done", at_worker.pop(), 0))
        elif move == "beat":
            to_router.append(("beat", len(at_worker), opened))
        elif move == "hear" and to_router:
            kind, first, second = to_router.pop(0)
            if kind == "done":
                assert pool.on_ended(name(0), StreamId(first))
            else:
                pool.on_beat(name(0), beat(active=first, opened=second), 0.0)
        in_flight = len(to_worker) + len(at_worker) + sum(kind == "done" for kind, _, _ in to_router)
        assert load(pool, 0) == in_flight


def test_the_homeless_go_to_workers_that_were_heard_after_the_death() -> None:
    """Of several that die at once some are not known to be dead yet."""
    pool = pool_of(3)
    pool.remove(name(0))
    wish = Wish(exclude=frozenset({name(0)}), survived=pool.deaths)
    assert pool.has_lost(wish.exclude)
    assert pool.place(wish) is Shortage.FULL
    assert pool.place(Wish()) in (name(1), name(2))
    pool.on_heard(name(2), 1.0)
    assert pool.place(wish) == name(2)
    pool.on_beat(name(1), beat(1), 1.0)
    pool.remove(name(2))
    assert pool.place(replace(wish, survived=pool.deaths)) is Shortage.FULL


def test_suspects_are_kept_apart_from_the_rest() -> None:
    """They share one worker, others go elsewhere, until it has lived on for a while."""
    pool = pool_of(2, capacity=20)
    pool.on_opened(name(1), StreamId(1), is_suspect=True)
    assert {pool.place(Wish(is_suspect=True)) for _ in range(9)} == {name(1)}
    assert {pool.place(Wish()) for _ in range(9)} == {name(0)}
    pool.on_cleared(name(1), StreamId(1))
    assert name(0) in {pool.place(Wish(is_suspect=True)) for _ in range(9)}
    pool.on_opened(name(1), StreamId(2), is_suspect=True)
    pool.on_ended(name(1), StreamId(2))
    open_on(pool, name(0), 3, 4)
    assert pool.place(Wish()) == name(1)


def test_with_one_worker_left_suspects_are_not_apart() -> None:
    """Apart is better, served is best."""
    pool = pool_of(1)
    assert pool.place(Wish(is_suspect=True)) == name(0)
    pool.on_opened(name(0), StreamId(1), is_suspect=True)
    assert pool.place(Wish()) == name(0)


def test_full_is_who_is_well_and_has_no_room() -> None:
    """A pool that lags, drains or is empty will be well again; only one at work up to its limit is full."""
    wish = Wish(engine="echo")
    pool = pool_of(2, capacity=1)
    assert not pool.is_full(wish)
    open_on(pool, name(0), 1)
    assert not pool.is_full(wish)
    open_on(pool, name(1), 2)
    assert pool.is_full(wish) and not pool.is_full(Wish(engine="other"))
    for slot in (0, 1):
        pool.on_beat(name(slot), beat(slot, capacity=1, active=1, opened=1, draining=True), 1.0)
    assert not pool.is_full(wish)
    assert not Pool(Role.ASR, random.Random(7).randrange).is_full(Wish())
