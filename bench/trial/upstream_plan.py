"""What goes wrong with the services outside, and when: a plan made from a seed. Pure.

Rules
- One thing at a time with one service, and all is well again when the plan is over. Any number of services may be ill
  at once: what they cost is judged by what people hear.
- Only what is a failure happens. A recogniser that says it heard nothing is believed, so nothing of that kind is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from types import MappingProxyType
from typing import Final

from bench.upstreams.script import Fault, Kind, Script, Stage


class Illness(StrEnum):
    FAULT = "fault"
    """It does what the script's fault says, for some sessions or for all."""
    SLOW = "slow"
    """It answers late, and in drips."""
    CLOSED = "closed"
    """Nobody listens at its port."""


HELD_S: Final = (2.0, 8.0)
PAUSE_S: Final = 2.0
"""Between two illnesses of a service."""
TIMES: Final = (0, 0, 1, 2, 4)
"""For so many sessions; 0 = for all."""
LATENCY_MS: Final = (300, 5000)
DRIP_MS: Final = (0, 500)
WEIGHTS: Final[Mapping[Illness, float]] = MappingProxyType({Illness.FAULT: 7.0, Illness.SLOW: 1.5, Illness.CLOSED: 1.5})

_C, _S, _T, _F = Stage.CONNECT, Stage.START, Stage.STREAM, Stage.FINISH
_ANYWHERE: Final = tuple(Stage)
_COMMON: Final = (Kind.SILENT, Kind.ERROR, Kind.QUOTA, Kind.CLOSE, Kind.GARBAGE)


def _of(kinds: Iterable[Kind], stages: Iterable[Stage]) -> tuple[tuple[Kind, Stage], ...]:
    where = tuple(stages)
    return tuple((kind, stage) for kind in kinds for stage in where)


_VOICE: Final = (
    *_of(_COMMON, _ANYWHERE),
    *_of((Kind.WRONG_SESSION,), (_S, _T, _F)),
    *_of((Kind.NO_RESULT, Kind.LATE_AUDIO), (_F,)),
)
FAULTS: Final[Mapping[str, tuple[tuple[Kind, Stage], ...]]] = MappingProxyType(
    {
        "doubao": (*_of(_COMMON, _ANYWHERE), (Kind.NO_RESULT, _F), (Kind.LATE_AUDIO, _F)),
        "fun_asr": (
            *_of(_COMMON, (_C,)),
            *_of((Kind.SILENT, Kind.ERROR, Kind.CLOSE, Kind.GARBAGE, Kind.WRONG_SESSION), (_S, _T, _F)),
        ),
        "aliyun_asr": (*_of(_COMMON, _ANYWHERE), *_of((Kind.WRONG_SESSION,), (_S, _T, _F))),
        "huoshan": _VOICE,
        "aliyun_tts": _VOICE,
        "edge": _VOICE,
        "openai": _of((*_COMMON, Kind.NO_RESULT), (_C, _S)),
        "llm": (*_of(_COMMON, _ANYWHERE), (Kind.NO_RESULT, _F)),
    }
)
"""What each fake does, by its name (bench/upstreams/roster.py), but for what is no failure."""


@dataclass(frozen=True, slots=True, order=True)
class UpstreamFault:
    at_s: float
    upstream: str
    illness: Illness
    held_s: float
    fault: str = ""
    """As `Fault.parse` takes it."""
    latency_ms: int = 0
    drip_ms: int = 0

    @property
    def ends_s(self) -> float:
        return self.at_s + self.held_s

    @property
    def script(self) -> Script:
        fault = Fault.parse(self.fault) if self.fault else None
        return Script(latency_ms=self.latency_ms, drip_ms=self.drip_ms, fault=fault)

    @property
    def name(self) -> str:
        """By which it is counted."""
        return self.fault.partition("*")[0] or self.illness.value

    def __str__(self) -> str:
        how = self.fault or f"{self.latency_ms} ms late, {self.drip_ms} ms between pieces"
        what = "closed" if self.illness is Illness.CLOSED else how
        return f"{self.at_s:7.1f} s  {self.upstream} {what} for {self.held_s:.1f} s"


def plan_upstream_faults(
    seed: str, seconds: float, upstreams: Sequence[str], *, every_s: float, first_s: float = 2.0
) -> list[UpstreamFault]:
    """About one every `every_s` seconds, in the order of time; each has ended at `seconds`."""
    chance = Random(f"upstreams {seed}")
    free_s = dict.fromkeys(upstreams, 0.0)
    faults: list[UpstreamFault] = []
    at_s = first_s
    while at_s < seconds - HELD_S[1]:
        well = [upstream for upstream in upstreams if free_s[upstream] <= at_s]
        if well:
            fault = _fault(chance, round(at_s, 2), chance.choice(well))
            free_s[fault.upstream] = fault.ends_s + PAUSE_S
            faults.append(fault)
        at_s += chance.uniform(0.5, 1.5) * every_s
    return faults


def _fault(chance: Random, at_s: float, upstream: str) -> UpstreamFault:
    illness = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    held_s = round(chance.uniform(*HELD_S), 2)
    match illness:
        case Illness.FAULT:
            kind, stage = chance.choice(FAULTS[upstream])
            times = chance.choice(TIMES)
            text = f"{kind.value}@{stage.value}" + (f"*{times}" if times else "")
            return UpstreamFault(at_s, upstream, illness, held_s, text)
        case Illness.SLOW:
            late_ms, drip_ms = chance.randint(*LATENCY_MS), chance.randint(*DRIP_MS)
            return UpstreamFault(at_s, upstream, illness, held_s, latency_ms=late_ms, drip_ms=drip_ms)
        case Illness.CLOSED:
            return UpstreamFault(at_s, upstream, illness, held_s)
