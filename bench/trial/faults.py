"""What is done to a cluster, and when: a plan made from a seed. Pure.

Rules
- Everything that ends or stops a process leaves another worker of its pool alone until it is back, so that what the
  plan costs the people can be told from what a pool without workers costs. `kill_pool` is the exception.
- Links are disturbed only where a forwarder stands (the slots that the caller names).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Act(StrEnum):
    KILL = "kill"
    """SIGKILL."""
    PAUSE = "pause"
    """SIGSTOP for less than it takes to be given up."""
    STOP = "stop"
    """SIGSTOP for longer: the worker comes back from the dead."""
    WEDGE = "wedge"
    """The next request that reaches the pool's engine holds the interpreter's lock until the watchdog ends it."""
    HANG = "hang"
    """The thread that works on the next request never comes back."""
    DRAIN = "drain"
    """SIGTERM."""
    KILL_POOL = "kill_pool"
    """Every worker of a pool at once."""
    CUT = "cut"
    """The forwarder closes the connections of a worker with its router."""
    DELAY = "delay"
    """Every message waits so long."""
    DUPLICATE = "duplicate"
    """Every n-th message comes twice."""
    DROP = "drop"
    """Every n-th message is lost, if it is data: its stream has to fail."""


LINK_ACTS = frozenset({Act.CUT, Act.DELAY, Act.DUPLICATE, Act.DROP})
STAGED = frozenset({Act.WEDGE, Act.HANG})
"""Stage directions, which only scripted engines take."""
HELD_S: Mapping[Act, tuple[float, float]] = {
    Act.PAUSE: (0.2, 1.5),
    Act.STOP: (4.0, 9.0),
    Act.DELAY: (1.0, 4.0),
    Act.DUPLICATE: (1.0, 4.0),
    Act.DROP: (0.5, 2.0),
}
"""How long it lasts."""
BACK_S: Mapping[Act, float] = {
    Act.KILL: 5.0,
    Act.PAUSE: 1.0,
    Act.STOP: 4.0,
    Act.WEDGE: 24.0,
    Act.HANG: 24.0,
    Act.DRAIN: 14.0,
    Act.KILL_POOL: 6.0,
    Act.CUT: 3.0,
    Act.DELAY: 3.0,
    Act.DUPLICATE: 3.0,
    Act.DROP: 3.0,
}
"""After its end: until its worker counts as whole again."""
WEIGHTS: Mapping[Act, float] = {
    Act.KILL: 6,
    Act.PAUSE: 4,
    Act.STOP: 3,
    Act.WEDGE: 1,
    Act.HANG: 1,
    Act.DRAIN: 4,
    Act.KILL_POOL: 0.5,
    Act.CUT: 2,
    Act.DELAY: 2,
    Act.DUPLICATE: 2,
    Act.DROP: 2,
}
WEDGEABLE = {"asr": ("recognising",), "session": ("thinking", "answering"), "tts": ("synthesising", "speaking")}
"""Points of the scripted engines, by pool (shared/rehearsal.py)."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    at_s: float
    act: Act
    pool: str
    slot: int
    held_s: float = 0.0
    point: str = ""
    """Where the engine is wedged."""
    every: int = 1
    """Of which messages."""

    @property
    def ends_s(self) -> float:
        return self.at_s + self.held_s + BACK_S[self.act]

    def __str__(self) -> str:
        held = f" for {self.held_s:.1f} s" if self.held_s else ""
        return f"{self.at_s:7.1f} s  {self.act} {self.pool}-{self.slot}{held} {self.point}".rstrip()


def plan_faults(
    seed: str,
    seconds: float,
    *,
    counts: Mapping[str, int],
    every_s: float,
    forwarded: Sequence[tuple[str, int]] = (),
    weights: Mapping[Act, float] = WEIGHTS,
    first_s: float = 3.0,
) -> list[Fault]:
    """About one fault every `every_s` seconds until `seconds`, in the order of time."""
    chance = Random(seed)
    faults: list[Fault] = []
    at_s = first_s
    while at_s < seconds:
        fault = _fault(chance, at_s, counts, forwarded, weights)
        if fault is not None and _is_allowed(fault, faults, counts):
            faults.append(fault)
        at_s += chance.uniform(0.5, 1.5) * every_s
    return faults


def _fault(
    chance: Random,
    at_s: float,
    counts: Mapping[str, int],
    forwarded: Sequence[tuple[str, int]],
    weights: Mapping[Act, float],
) -> Fault | None:
    act = chance.choices(list(weights), list(weights.values()))[0]
    if act in LINK_ACTS:
        if not forwarded:
            return None
        pool, slot = chance.choice(forwarded)
    else:
        pool = chance.choice(sorted(counts))
        slot = chance.randrange(counts[pool])
    held_s = round(chance.uniform(*HELD_S[act]), 2) if act in HELD_S else 0.0
    point = chance.choice(WEDGEABLE[pool]) if act in STAGED else ""
    return Fault(round(at_s, 2), act, pool, slot, held_s, point, every=chance.choice((3, 7, 20)))


def _is_allowed(fault: Fault, faults: Sequence[Fault], counts: Mapping[str, int]) -> bool:
    """Somebody of the pool stays whole."""
    hurt = [other for other in faults if other.pool == fault.pool and other.ends_s > fault.at_s]
    if fault.act is Act.KILL_POOL:
        return not hurt
    return len(hurt) + 1 < counts[fault.pool] and all(other.act is not Act.KILL_POOL for other in hurt)
