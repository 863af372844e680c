"""The outbox against a model, by random walks of several holders. On SQLite, as the statements are the same."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.settings import StoreSettings
from shared.store.model import Lease
from shared.store.store import Store
from tests.fakes.stores import parcel

pytestmark = pytest.mark.contract

LEASE_S = 10.0
MOST_ATTEMPTS = 3
SESSIONS = st.sampled_from(["s", "t", "u"])
KINDS = st.sampled_from(["report", "title"])
HOLDERS = st.sampled_from(["g", "h"])


@dataclass
class Modelled:
    """What a parcel should look like."""

    n: int
    lane: tuple[str, str]
    due_s: float
    until_s: float = 0.0
    attempt: int = 0
    is_dead: bool = False


class OutboxWalk(RuleBasedStateMachine):
    """Time goes on, holders lease, deliver, fail, and forget what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory(prefix="xzt-")
        self.now = 100.0
        self.parcels: list[Modelled] = []
        self.held: list[Lease] = []
        self.put_ever = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        store_settings = StoreSettings(outbox_attempts=MOST_ATTEMPTS)
        self.store: Store = self.run(Store.open(store_settings, Path(self.directory.name), migrates=True))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.runner.close()
        self.directory.cleanup()

    @rule(session=SESSIONS, kind=KINDS)
    def put(self, session: str, kind: str) -> None:
        self.put_ever += 1
        self.run(self.store.outbox.put([parcel(self.put_ever, session=session, kind=kind)], self.now))
        self.parcels.append(Modelled(self.put_ever, (kind, session), self.now))

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(holder=HOLDERS, kinds=st.sets(KINDS, min_size=1), limit=st.integers(1, 4))
    def lease(self, holder: str, kinds: set[str], limit: int) -> None:
        leases = self.run(self.store.outbox.lease(holder, sorted(kinds), self.now, LEASE_S, limit))
        expected = self.lease_model(kinds, limit)
        assert [(one.parcel.payload["n"], one.attempt) for one in leases] == expected
        self.held += leases

    def lease_model(self, kinds: set[str], limit: int) -> list[tuple[int, int]]:
        found = []
        for one in self.parcels:
            has_ended = 0.0 < one.until_s <= self.now
            if one.lane[0] in kinds and not one.is_dead and has_ended and one.attempt >= MOST_ATTEMPTS:
                one.is_dead = True
        for lane in {one.lane for one in self.parcels if one.lane[0] in kinds}:
            head = next((one for one in self.parcels if one.lane == lane and not one.is_dead), None)
            if head is not None and head.due_s <= self.now and head.until_s <= self.now:
                found.append(head)
        found = sorted(found, key=lambda one: one.n)[:limit]
        for one in found:
            one.attempt += 1
            one.until_s = self.now + LEASE_S
        return [(one.n, one.attempt) for one in found]

    def model_of(self, lease: Lease) -> Modelled | None:
        """None if this lease counts no more."""
        n = lease.parcel.payload["n"]
        return next((one for one in self.parcels if (one.n, one.attempt) == (n, lease.attempt) and one.until_s), None)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), forgets=st.booleans())
    def done(self, data: st.DataObject, forgets: bool) -> None:
        lease = data.draw(st.sampled_from(self.held))
        model = self.model_of(lease)
        assert self.run(self.store.outbox.done(lease)) is (model is not None)
        if model is not None:
            self.parcels.remove(model)
        if forgets:
            self.held.remove(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), later_s=st.sampled_from([0.0, 3.0, 30.0]))
    def retry(self, data: st.DataObject, later_s: float) -> None:
        lease = data.draw(st.sampled_from(self.held))
        model = self.model_of(lease)
        assert self.run(self.store.outbox.retry(lease, self.now + later_s, "x")) is (model is not None)
        if model is not None:
            model.until_s, model.due_s = 0.0, self.now + later_s
            model.is_dead = model.attempt >= MOST_ATTEMPTS

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        backlog = self.run(self.store.outbox.backlog())
        waiting = [one for one in self.parcels if not one.is_dead]
        assert (backlog.waiting, backlog.dead) == (len(waiting), len(self.parcels) - len(waiting))


OutboxWalk.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOutboxWalk = OutboxWalk.TestCase
