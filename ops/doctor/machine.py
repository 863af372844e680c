"""The machine: its clock, descriptors, cores and memory, against what the settings ask of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.doctor.finding import Finding, fail, ok, warn

CLOCK = "clock"
FILES = "open files"
POWER = "cores and memory"

FIRST_SANE_YEAR, LAST_SANE_YEAR = 2025, 2099
SKEW_WARN_S = 60.0
SKEW_FAIL_S = 24 * 3600.0
NEEDED_FILES = 4096
COMPUTING_PER_CORE = 4
"""Recognisers and synthesisers that share a core: more only wait for each other."""
MB = 1024 * 1024
TAKES_BYTES = {"web": 45 * MB, "router": 50 * MB, "session": 80 * MB, "asr": 80 * MB, "tts": 200 * MB}
"""Of one idle process with the embedded engines, its share of what processes have in common included (measured PSS)."""
RECOGNISER_BYTES = 110 * MB


@dataclass(frozen=True, slots=True)
class ClockFact:
    now_s: float
    skews_s: dict[str, float]
    """By upstream: its clock minus ours, from the Date header of its answer."""


@dataclass(frozen=True, slots=True)
class PowerFact:
    """What there is, limits of the container included, and what the settings start."""

    cores: float
    free_bytes: int
    processes: Mapping[str, int]
    """By program."""
    recognisers: int
    synthesisers: int
    is_running: bool = False
    """Then its memory is taken already."""


def judge_clock(fact: ClockFact) -> Iterator[Finding]:
    now = datetime.fromtimestamp(fact.now_s, UTC)
    remedy = "set the clock (timedatectl set-ntp true): the tokens of devices expire by it, and so do certificates"
    if not FIRST_SANE_YEAR <= now.year <= LAST_SANE_YEAR:
        yield fail(CLOCK, f"it says the year {now.year}", remedy)
        return
    for host, skew_s in fact.skews_s.items():
        direction = "behind" if skew_s > 0 else "ahead of"
        what = f"it is {abs(skew_s):.0f} s {direction} the one of {host}"
        if abs(skew_s) > SKEW_FAIL_S:
            yield fail(CLOCK, what, remedy)
        elif abs(skew_s) > SKEW_WARN_S:
            yield warn(CLOCK, what, remedy)
        else:
            yield ok(CLOCK, f"{now:%Y-%m-%d %H:%M:%S} UTC, as {host} has it")
    if not fact.skews_s:
        yield ok(CLOCK, f"{now:%Y-%m-%d %H:%M:%S} UTC")


def judge_open_files(soft: int, hard: int, wanted: int) -> Iterator[Finding]:
    """-1 = unlimited, as resource.RLIM_INFINITY."""
    most = hard if hard >= 0 else wanted
    remedy = "ulimit -Hn 65536, LimitNOFILE=65536 in systemd, --ulimit nofile=65536 in Docker"
    if most < NEEDED_FILES:
        yield fail(FILES, f"a process may open {most}, {NEEDED_FILES} are needed", remedy)
    elif most < wanted:
        yield warn(FILES, f"a process may open {most}; {wanted} are wanted, each connection is one", remedy)
    else:
        yield ok(FILES, f"{wanted} are possible (soft limit {soft if soft >= 0 else 'none'}, raised at the start)")


def judge_power(fact: PowerFact) -> Iterator[Finding]:
    computing = fact.recognisers + fact.synthesisers
    found = False
    if computing > COMPUTING_PER_CORE * max(1.0, fact.cores):
        found = True
        what = f"{fact.recognisers} recognisers and {fact.synthesisers} synthesisers share {fact.cores:g} cores"
        yield warn(POWER, what, "lower cluster.asr.recognisers, cluster.counts or synth threads: more is not faster")
    needed = sum(TAKES_BYTES[program] * count for program, count in fact.processes.items())
    needed += fact.recognisers * RECOGNISER_BYTES
    if not fact.is_running and needed > fact.free_bytes:
        found = True
        what = f"about {needed // MB} MB are needed, {fact.free_bytes // MB} MB are free"
        yield warn(POWER, what, "lower cluster.counts, or give the machine more memory")
    if not found:
        yield ok(POWER, f"{fact.cores:g} cores for {computing} that compute, {fact.free_bytes // MB} MB free")
