"""Ports: free while the cluster is down, the cluster's own while it is up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ops.doctor.finding import Finding, fail, ok, warn

CHECK = "ports"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that listens; `is_ours` if supervisord started it for this run directory."""

    pid: int
    program: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class PortFact:
    """One port the cluster wants. `owners` is empty where /proc does not say whose it is."""

    use: str
    port: int
    fault: str | None = None
    """Why it could not be bound; None = it is free."""
    owners: tuple[Owner, ...] = ()


def judge_ports(facts: Sequence[PortFact], *, is_up: bool) -> Iterator[Finding]:
    yield from _wanted_twice(facts)
    taken = [fact for fact in facts if fact.fault is not None]
    ours = [fact for fact in taken if any(owner.is_ours for owner in fact.owners)]
    for fact in taken:
        if fact not in ours:
            yield _foreign(fact)
    if ours and not is_up:
        ports = ", ".join(str(fact.port) for fact in ours)
        yield warn(CHECK, f"still held by an earlier cluster: {ports}", "xiaozhi up ends what is left of it")
    if len(ours) == len(taken):
        yield ok(CHECK, f"{len(facts)} looked at, {len(ours)} in use by this cluster, the others free")


def _wanted_twice(facts: Sequence[PortFact]) -> Iterator[Finding]:
    uses = Counter(fact.port for fact in facts)
    for port in sorted(port for port, count in uses.items() if count > 1):
        names = ", ".join(fact.use for fact in facts if fact.port == port)
        yield fail(CHECK, f"{port} is wanted for {names}", "give them different ports")


def _foreign(fact: PortFact) -> Finding:
    if not fact.owners:
        what = f"{fact.port} for {fact.use}: {fact.fault}"
        return fail(CHECK, what, f"see who listens: ss -ltnp 'sport = :{fact.port}' (as root); or choose another port")
    who = ", ".join(f"{owner.program} (process {owner.pid})" for owner in fact.owners)
    return fail(CHECK, f"{fact.port} for {fact.use} is taken by {who}", "stop it, or choose another port")
