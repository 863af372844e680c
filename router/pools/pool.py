"""One pool: which workers there are, how loaded each is, and where the next stream goes. Pure.

Rules
- The first BEAT is the join. Dead is final: an identity that was removed is never taken back, it has to rejoin.
- Load of a worker = streams in its last BEAT − those that ended since + OPENs sent that the BEAT does not count yet
  (a BEAT says how many OPENs it has seen, so this is exact), never less than the streams we know to be there.
- Two workers are drawn at random, the one with less load is taken. Sessions prefer by rendezvous hash of the device
  over hosts and slots, so that all routers, and a restarted worker, agree.
- The worker is the authority: its refusal corrects the load we believed in.
- Draining, lagging and suspect workers get no new streams.
- What a death has made homeless goes to workers that were heard after it: of several that die at once, those that are
  not known to be dead yet must not be taken for survivors.
- What may have killed a worker (router.pools.suspicion) is kept apart from what has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum
from hashlib import blake2b
from typing import Any

from shared.ids import Role, StreamId, WorkerId
from shared.link.beat import (
    PING_IDLE_S,
    PING_LIVE_S,
    STALLED_MS,
    Liveness,
    Steadiness,
    Verdict,
)
from shared.link.envelope import PROTO
from shared.link.messages import Beat

MAX_REMEMBERED_DEAD = 10_000
"""Identities; a worker that crashes every three seconds needs eight hours to be forgotten."""

Choose = Callable[[int], int]
"""A random number below n, such as random.randrange."""


class State(StrEnum):
    READY = "ready"
    LAGGING = "lagging"
    SUSPECT = "suspect"
    DRAINING = "draining"


class Shortage(Enum):
    """Why nobody can take a stream."""

    EMPTY = "empty"
    """No worker could ever take it."""
    FULL = "full"
    """Some could, but not now."""


class BeatNews(Enum):
    """What a BEAT changed."""

    JOINED = "joined"
    KNOWN = "known"
    DRAINING = "draining"
    """The worker has begun to drain."""
    STALLED = "stalled"
    """A compute thread hangs: its streams should go elsewhere."""
    DEAD = "dead"
    """The identity was removed: answer LEAVE."""
    UNWELCOME = "unwelcome"
    """Another role, or a protocol that is not a neighbour of ours."""


@dataclass(slots=True, eq=False)
class Worker:
    """One incarnation of a worker, as this router sees it."""

    id: WorkerId
    beat: Beat
    liveness: Liveness
    opened_base: int
    """`opened` of its first BEAT."""
    steadiness: Steadiness = field(default_factory=Steadiness)
    opens_sent: int = 0
    ended_since_beat: int = 0
    held: set[StreamId] = field(default_factory=set)
    """Streams opened here that have sent no DONE or ERROR yet, aborted ones included."""
    is_suspect: bool = False
    survived: int = 0
    """How many deaths of its pool had been known when it was last heard."""
    suspects: set[StreamId] = field(default_factory=set)
    """Streams opened here a moment ago that may kill it."""

    def __repr__(self) -> str:
        return f"Worker({self.id}, {self.state.value}, {self.load}/{self.beat.capacity}, {len(self.held)} ours)"

    @property
    def reserved(self) -> int:
        """OPENs that the last BEAT does not count yet."""
        return max(0, self.opens_sent - (self.beat.opened - self.opened_base))

    @property
    def load(self) -> int:
        return max(self.beat.active - self.ended_since_beat + self.reserved, len(self.held))

    @property
    def has_room(self) -> bool:
        return self.load < self.beat.capacity

    @property
    def is_draining(self) -> bool:
        return self.beat.draining

    @property
    def state(self) -> State:
        if self.is_draining:
            return State.DRAINING
        if self.is_suspect:
            return State.SUSPECT
        return State.LAGGING if self.steadiness.is_lagging else State.READY

    def has_engine(self, engine: str | None) -> bool:
        return engine is None or engine in self.beat.caps.get("engines", ())

    def describe(self) -> dict[str, Any]:
        """For people and dashboards."""
        own = {"id": self.id, "state": self.state.value, "reserved": self.reserved, "load": self.load}
        return asdict(self.beat) | own | {"ours": len(self.held)}

    @property
    def label(self) -> str:
        """What stays the same when the worker is restarted."""
        return f"{self.beat.host}/{self.beat.slot}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asks of a placement."""

    key: str = ""
    """Device id: whose session this is. Empty = no preference."""
    prefer: WorkerId | None = None
    exclude: frozenset[WorkerId] = frozenset()
    engine: str | None = None
    survived: int = 0
    """So many deaths of the pool the worker must have survived."""
    is_suspect: bool = False
    """It may kill its worker."""


class Pool:
    """The workers of one role."""

    def __init__(self, role: Role, choose: Choose) -> None:
        self.role = role
        self.has_had_worker = False
        self._choose = choose
        self._workers: dict[WorkerId, Worker] = {}
        self._dead: dict[WorkerId, None] = {}
        self.deaths = 0

    def __repr__(self) -> str:
        return f"Pool({self.role.value}, {list(self._workers.values())})"

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker: WorkerId) -> bool:
        return worker in self._workers

    def get(self, worker: WorkerId) -> Worker | None:
        return self._workers.get(worker)

    @property
    def has_room(self) -> bool:
        return any(worker.has_room and worker.state is State.READY for worker in self._workers.values())

    def workers(self) -> list[Worker]:
        return list(self._workers.values())

    # Membership

    def on_beat(self, worker: WorkerId, beat: Beat, now: float) -> BeatNews:
        if worker in self._dead:
            return BeatNews.DEAD
        if beat.role != self.role or abs(beat.proto - PROTO) > 1:
            return BeatNews.UNWELCOME
        known = self._workers.get(worker)
        if known is None:
            self._workers[worker] = joined = Worker(worker, beat, Liveness(now), opened_base=beat.opened)
            joined.steadiness.on_beat(beat)
            joined.survived = self.deaths
            self.has_had_worker = True
            return BeatNews.JOINED
        return self._on_next_beat(known, beat, now)

    def on_heard(self, worker: WorkerId, now: float) -> bool:
        """Any message is a sign of life. False if the sender is not in the pool: answer LEAVE."""
        known = self._workers.get(worker)
        if known is None:
            return False
        known.liveness.on_heard(now)
        known.is_suspect = False
        known.survived = self.deaths
        return True

    def pings_due(self, now: float) -> list[WorkerId]:
        return [worker.id for worker in self._workers.values() if self._is_ping_due(worker, now)]

    def on_pinged(self, worker: WorkerId, now: float) -> None:
        known = self._workers.get(worker)
        if known is not None:
            known.liveness.on_pinged(now)

    def judge(self, now: float) -> list[WorkerId]:
        """Who has been silent too long. Asked when all that has arrived is read, and our own clock was on time."""
        dead = []
        for worker in self._workers.values():
            verdict = worker.liveness.verdict(now)
            worker.is_suspect = verdict is not Verdict.ALIVE
            if verdict is Verdict.DEAD:
                dead.append(worker.id)
        return dead

    def forgive(self, now: float) -> None:
        """We stalled: nobody's silence counts."""
        for worker in self._workers.values():
            worker.liveness.forgive(now)

    def remove(self, worker: WorkerId) -> Worker | None:
        """Dead or left, for ever."""
        removed = self._workers.pop(worker, None)
        if removed is not None:
            self.deaths += 1
            self._dead[worker] = None
            if len(self._dead) > MAX_REMEMBERED_DEAD:
                del self._dead[next(iter(self._dead))]
        return removed

    # Placement

    def place(self, wish: Wish) -> WorkerId | Shortage:
        """Where a stream goes. Nothing is reserved before `on_opened`."""
        able = [w for w in self._workers.values() if w.has_engine(wish.engine)]
        if not able:
            return Shortage.EMPTY
        free = [w for w in able if w.has_room and w.state is State.READY and w.survived >= wish.survived]
        # A worker that has failed this job once is better than nobody.
        free = [w for w in free if w.id not in wish.exclude] or free
        free = [w for w in free if bool(w.suspects) is wish.is_suspect] or free
        return self._pick(free, wish).id if free else Shortage.FULL

    def is_full(self, wish: Wish) -> bool:
        """Workers are there and well, and all of them are at work: whoever waits here waits for others to finish."""
        well = [w for w in self._workers.values() if w.has_engine(wish.engine) and w.state is State.READY]
        return bool(well) and not any(w.has_room for w in well)

    def has_lost(self, workers: Iterable[WorkerId]) -> bool:
        """Whether one of these is dead."""
        return any(worker in self._dead for worker in workers)

    def on_opened(self, worker: WorkerId, stream: StreamId, *, is_suspect: bool = False) -> None:
        """An OPEN is about to leave: reserve its slot."""
        known = self._workers[worker]
        known.opens_sent += 1
        if is_suspect:
            known.suspects.add(stream)
        known.held.add(stream)

    def on_unsent(self, worker: WorkerId, stream: StreamId) -> None:
        """The OPEN did not leave after all."""
        known = self._workers.get(worker)
        if known is not None and stream in known.held:
            known.opens_sent -= 1
            known.held.discard(stream)

    def on_cleared(self, worker: WorkerId, stream: StreamId) -> None:
        """The worker has lived on with this suspect."""
        known = self._workers.get(worker)
        if known is not None:
            known.suspects.discard(stream)

    def on_ended(self, worker: WorkerId, stream: StreamId) -> bool:
        """A DONE or ERROR frees a slot, once. False if that stream held none."""
        known = self._workers.get(worker)
        if known is None or stream not in known.held:
            return False
        known.held.discard(stream)
        known.suspects.discard(stream)
        known.ended_since_beat += 1
        return True

    def on_refused(self, worker: WorkerId, load: int) -> None:
        """The worker's own word about its load is worth more than ours; its next BEAT settles it."""
        known = self._workers.get(worker)
        if known is not None:
            known.ended_since_beat -= max(0, load - known.load)

    def _pick(self, free: list[Worker], wish: Wish) -> Worker:
        for worker in free:
            if worker.id == wish.prefer:
                return worker
        if wish.key:
            return max(free, key=lambda worker: (_score(wish.key, worker.label), worker.id))
        return self._less_loaded_of_two(free)

    def _less_loaded_of_two(self, free: list[Worker]) -> Worker:
        if len(free) == 1:
            return free[0]
        first = self._choose(len(free))
        second = self._choose(len(free) - 1)
        second += second >= first
        return min(free[first], free[second], key=lambda worker: worker.load)

    def _on_next_beat(self, known: Worker, beat: Beat, now: float) -> BeatNews:
        began_draining = beat.draining and not known.is_draining
        was_stalled = known.beat.stalled_ms > STALLED_MS
        known.beat = beat
        known.ended_since_beat = 0
        known.steadiness.on_beat(beat)
        known.liveness.on_heard(now)
        known.is_suspect = False
        known.survived = self.deaths
        if beat.stalled_ms > STALLED_MS and not was_stalled:
            return BeatNews.STALLED
        return BeatNews.DRAINING if began_draining else BeatNews.KNOWN

    @staticmethod
    def _is_ping_due(worker: Worker, now: float) -> bool:
        return worker.liveness.is_ping_due(now, PING_LIVE_S if worker.held else PING_IDLE_S)


def _score(key: str, label: str) -> bytes:
    """Rendezvous hash: stable between processes, unlike hash()."""
    return blake2b(f"{key}\0{label}".encode(), digest_size=8).digest()
