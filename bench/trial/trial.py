"""One run from start to verdict: a cluster of its own, people with marked devices, faults, and the books.

The order: the cluster is ready and warm; what each process holds is noted; people talk while the plan of faults is
carried out; they hang up; the cluster comes to rest; what each process holds is noted again and compared.

With services outside (bench/trial/upstreams.py) people talk on after the plan until every first of a chain is asked
again by every worker and answers alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.lag import LagProbe
from bench.tally import spread
from bench.trial.books import Books, Holding
from bench.trial.cluster import POOLS, TrialCluster
from bench.trial.events import DeviceEvent
from bench.trial.faults import Fault
from bench.trial.forwarder import Forwarder
from bench.trial.judge import Complaint, Judge
from bench.trial.marked_device import NOTE_FUNCTION, FrameReader
from bench.trial.mischief import Mischief, forwarded_environment, make_forwarders
from bench.trial.people import LAST_WORD, MODES, MS_PER_CHAR, REPLY, TURNS, Company, Habits, Speeches
from bench.trial.upstream_plan import UpstreamFault
from bench.trial.upstreams import Upstreams
from bench.trial.wire_book import WireBook
from bench.upstreams.voice import MS_PER_CHAR as UPSTREAM_MS_PER_CHAR
from shared.listening import Mode

SAMPLE_S = 1.0
WARM_UP_S = 6.0
"""Each process has done everything once before it is measured."""
REST_S = 30.0
"""Longest wait for a cluster without devices to have nothing open."""
HEAL_S = 200.0
"""Longest wait for the first of each chain to answer alone: a breaker rests two and a half minutes at most."""
PROOF_S = 4.0
"""So long nobody may be asked but they."""
NOTES = r"mark..[a-p][aei]\b"
"""In which turns a note is written: those whose number ends so."""

ROUTER_SUMS = (
    "xz_turns_total",
    "xz_worker_deaths_total",
    "xz_stream_retries_total",
    "xz_stream_moves_total",
    "xz_segments_clipped_total",
    "xz_segments_failed_total",
    "xz_utterances_failed_total",
    "xz_session_failures_total",
    "xz_prompts_total",
    "xz_pool_exhausted_total",
    "xz_egress_underruns_total",
)


def trial_config(*, asr_fail_every: int = 0, llm_fail_every: int = 0, tts_fail_every: int = 0) -> str:
    """Scripted engines that hear and sound marks; 0 = never fails. STAGE is filled in by the cluster."""
    asr: dict[str, Any] = {"type": "scripted", "text": "{mark}", "delay_ms": 100, "stage": "STAGE"}
    llm: dict[str, Any] = {
        "type": "scripted",
        "reply": REPLY,
        "first_token_ms": 100,
        "tool": NOTE_FUNCTION,
        "tool_if": NOTES,
        "stage": "STAGE",
    }
    tts: dict[str, Any] = {"type": "sine", "ms_per_char": MS_PER_CHAR, "marks": True, "stage": "STAGE"}
    for section, every, how in (
        (asr, asr_fail_every, "raise"),
        (llm, llm_fail_every, ["connect", "midstream", "hang"]),
        (tts, tts_fail_every, "raise"),
    ):
        if every:
            section |= {"fail": how, "fail_every": every}
    return yaml.safe_dump(
        {
            "selected_module": {"ASR": "Marked", "LLM": "Marked", "TTS": "Marked"},
            "ASR": {"Marked": asr},
            "LLM": {"Marked": llm},
            "TTS": {"Marked": tts},
            "cluster": {"asr": {"recognisers": 32}},
        }
    )


EMBEDDED_CONFIG = "cluster: {asr: {recognisers: 2}}\n"
"""The engines that come with the project, and the offline brain."""


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What happens."""

    devices: int
    seconds: float
    seed: str
    counts: Mapping[str, int]
    faults: Sequence[Fault] = ()
    forwarded: Sequence[str] = ()
    """Workers whose link goes through a forwarder, such as "asr-0"."""
    config: str = ""
    has_marks: bool = True
    """False: the engines of `config` neither hear nor sound marks."""
    habits: Habits = field(default_factory=Habits)
    modes: Sequence[Mode] = MODES
    turns: int = TURNS
    """After so many the marks of a person begin anew."""
    sample_s: float = SAMPLE_S
    warm_up_s: float = WARM_UP_S
    keep_logs_in: Path | None = None
    providers: Sequence[str] = ()
    """Services outside, as bench/trial/upstreams.py takes them; they make the configuration then."""
    upstream_faults: Sequence[UpstreamFault] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Trial:
    """One run. `complaints` is whole when `run` has returned."""

    def __init__(self, plan: TrialPlan) -> None:
        self.plan = plan
        self.judge = Judge(
            ms_per_char=UPSTREAM_MS_PER_CHAR if plan.providers else MS_PER_CHAR,
            last_word=LAST_WORD if plan.has_marks else "",
            has_marks=plan.has_marks,
            always_sounds=bool(plan.providers),
        )
        self.books = Books()
        self.wire = WireBook()
        self.cluster = TrialCluster(
            plan.config or trial_config(),
            counts=plan.counts,
            environment=plan.environment,
            keep_logs_in=plan.keep_logs_in,
        )
        self.upstreams: Upstreams | None = None
        if plan.providers:
            self.upstreams = Upstreams(plan.providers, self.cluster.spare_ports)
            self.cluster.config = self.upstreams.config()
        self.cluster.slot_environment = forwarded_environment(self.cluster, plan.forwarded)
        self.forwarders: Mapping[str, Forwarder] = make_forwarders(self.cluster, plan.forwarded, self.wire, self._now)
        self.mischief = Mischief(self.cluster, self.forwarders)
        self.samples: list[tuple[float, list[Holding]]] = []
        """(seconds since people began, what each process held)."""
        self.router_sums: dict[str, float] = {}
        self._lag = LagProbe()
        self._began_s = time.monotonic()
        speeches = Speeches(plan.devices, plan.turns, has_marks=plan.has_marks)
        self._company = Company("", speeches, FrameReader(), self._tell, plan.seed, plan.habits)

    @property
    def complaints(self) -> list[Complaint]:
        found = [*self.judge.complaints, *self.books.complaints, *self.wire.complaints, *self.cluster.complaints]
        found += self.upstreams.complaints if self.upstreams is not None else []
        return sorted(found, key=lambda complaint: complaint.at_s)

    async def run(self) -> None:
        self.cluster.run_dir.chmod(0o700)
        for forwarder in self.forwarders.values():
            await forwarder.start()
        try:
            async with self.upstreams or nullcontext(), self.cluster:
                await self._in_cluster()
        finally:
            for forwarder in self.forwarders.values():
                await forwarder.close()

    async def _in_cluster(self) -> None:
        plan, company = self.plan, self._company
        company.ota_url = self.cluster.ota_url
        await self._talk(plan.warm_up_s)
        before = await self._rest()
        self.samples.clear()
        self._began_s = time.monotonic()
        sampling = asyncio.create_task(self._sample(), name="trial-sampler")
        self._lag.start()
        try:
            async with asyncio.TaskGroup() as group:
                seconds = plan.seconds + (HEAL_S if self.upstreams is not None else 0.0)
                group.create_task(self._talk(seconds), name="trial-people")
                group.create_task(self._trouble(), name="trial-trouble")
        finally:
            self._lag.stop()
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        await self.cluster.ready()
        after = await self._rest()
        now = self._now()
        self.judge.finish(now)
        self.books.at_rest(await self.cluster.pages.loads(self.cluster.router_port) or [], now)
        self.wire.at_rest(now)
        self.books.compare(before, after, now)
        self.router_sums = await self.cluster.pages.sums(self.cluster.router_port, ROUTER_SUMS)

    async def _trouble(self) -> None:
        """All that is planned. Then, with services outside, until they are whole again; nobody talks after that."""
        if self.upstreams is None:
            await self.mischief.run(self.plan.faults)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self.mischief.run(self.plan.faults), name="trial-mischief")
            group.create_task(self.upstreams.run(self.plan.upstream_faults), name="trial-upstreams")
            group.create_task(asyncio.sleep(self.plan.seconds), name="trial-time")
        try:
            await self._healed(self.upstreams)
        finally:
            self._company.ends_s = time.monotonic()

    async def _healed(self, upstreams: Upstreams) -> None:
        began_s, book = self._now(), upstreams.book
        since_s, fallbacks = began_s, book.fallbacks
        while self._now() < began_s + HEAL_S:
            await asyncio.sleep(self.plan.sample_s)
            if book.fallbacks != fallbacks or book.not_closed(upstreams.firsts):
                since_s, fallbacks = self._now(), book.fallbacks
            elif self._now() >= since_s + PROOF_S:
                upstreams.healed_after_s = round(since_s - began_s, 1)
                return
        left = ", ".join(book.not_closed(upstreams.firsts)) or "others still stand in"
        upstreams.complain("not_healed", "upstreams", self._now(), left)

    async def _talk(self, seconds: float) -> None:
        self._company.ends_s = time.monotonic() + seconds
        if seconds:
            await self._company.talk(self.plan.devices, self.plan.modes)

    async def _rest(self) -> list[Holding]:
        """Wait until nothing is open any more, or until it is clear that something stays; then look."""
        pages, port = self.cluster.pages, self.cluster.router_port
        deadline_s = time.monotonic() + REST_S
        while time.monotonic() < deadline_s:
            loads = await pages.loads(port)
            if loads is not None and not any(load.ours or load.active or load.reserved for load in loads):
                break
            await asyncio.sleep(0.2)
        if self.upstreams is not None:
            await self.upstreams.at_rest(self._now())
        await self._look()
        return self.samples[-1][1]

    async def _sample(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(self.plan.sample_s)

    async def _look(self) -> None:
        pages, cluster = self.cluster.pages, self.cluster
        loads = await pages.loads(cluster.router_port)
        counts = await pages.counts(cluster.router_port)
        holdings = await pages.holdings(cluster.running())
        now = self._now()
        self.books.on_loads(loads or [], now)
        repeated_ends = sum(forwarder.repeated_ends for forwarder in self.forwarders.values())
        router = f"router-0 ({cluster.slots['router-0'].pid})"
        self.books.on_counts(router, counts, now, repeated_ends=repeated_ends)
        self.books.on_holdings(holdings, now)
        self.samples.append((now, holdings))
        if self.upstreams is not None:
            self.upstreams.book.on_pages(await pages.upstreams(cluster.running()))

    def _tell(self, event: DeviceEvent) -> None:
        self.judge.on(event, self._now())

    def _now(self) -> float:
        return time.monotonic() - self._began_s

    def talking_samples(self) -> list[tuple[float, list[Holding]]]:
        """Those that were taken while people talked."""
        return [(at_s, held) for at_s, held in self.samples if 0 <= at_s <= self.plan.seconds]

    # Report

    def report(self) -> dict[str, Any]:
        plan, judge = self.plan, self.judge
        complaints = self.complaints
        codes = sorted({complaint.code for complaint in complaints})
        return {
            "devices": plan.devices,
            "seconds": plan.seconds,
            "seed": plan.seed,
            "workers": {pool: plan.counts.get(pool, 1) for pool in POOLS},
            "faults": dict(self.mischief.done),
            "restarts": self.cluster.restarts,
            "turns": dict(judge.outcomes),
            "frames": dict(judge.frames),
            "wire": {"opened": self.wire.opened, "ended": self.wire.ended, "lost": self.wire.lost},
            "forwarded": {
                "repeated": sum(one.repeated for one in self.forwarders.values()),
                "lost": sum(one.lost for one in self.forwarders.values()),
                "delayed": sum(one.delayed for one in self.forwarders.values()),
            },
            "router": self.router_sums,
            "threads": {name: f"{most} of {budget}" for name, (most, budget) in self.books.highest_threads.items()},
            "looks": self.books.looks,
            **(self.upstreams.to_json() if self.upstreams is not None else {}),
            "first_sound_s": spread(judge.sound_s),
            "turn_s": spread(judge.turn_s),
            "own_loop_lag_ms": spread(self._lag.lags_ms),
            "complaints": {code: sum(one.code == code for one in complaints) for code in codes},
            "examples": [str(one) for one in complaints[:40]],
        }
