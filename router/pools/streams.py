"""The stream table: which messages of workers still count. Pure.

Rules
- Every OPEN, each retry too, has a fresh id that is never used again in the router's life.
- A message counts only if its stream is in the table and it came from the worker the stream was placed on.
- `seq` counts from 0 without gaps; a gap is told to the caller, who ends the stream.
- DONE or ERROR frees the row. Ending anything early is: delete the row, then ABORT. What comes later is stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from shared.ids import Role, StreamId, WorkerId
from shared.link.envelope import Kind

Owner = TypeVar("Owner")

TERMINATORS = frozenset({Kind.DONE, Kind.ERROR})


class Refusal(StrEnum):
    """Why a message does not count. The values go into metrics."""

    STALE = "stale"
    """The stream is not in the table: ended, aborted, or never ours."""
    WRONG_WORKER = "wrong_worker"
    GAP = "gap"
    """The row is still there: its caller ends it."""


@dataclass(slots=True, eq=False)
class Row(Generic[Owner]):
    """One stream that lives."""

    id: StreamId
    role: Role
    worker: WorkerId
    owner: Owner
    next_in: int = 0
    next_out: int = 1
    """OPEN was 0."""

    def take_seq(self) -> int:
        """The number of the next message to the worker."""
        seq = self.next_out
        self.next_out += 1
        return seq


class StreamTable(Generic[Owner]):
    """All live streams of one router."""

    def __init__(self) -> None:
        self._rows: dict[StreamId, Row[Owner]] = {}
        self._by_worker: dict[WorkerId, dict[StreamId, Row[Owner]]] = {}
        self._minted = 0

    def __repr__(self) -> str:
        return f"StreamTable({len(self._rows)} live of {self._minted}, on {len(self._by_worker)} workers)"

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, stream: StreamId) -> bool:
        return stream in self._rows

    def add(self, owner: Owner, role: Role, worker: WorkerId) -> Row[Owner]:
        """Mint an id for a stream about to be opened on `worker`."""
        self._minted += 1
        row = Row(StreamId(self._minted), role, worker, owner)
        self._rows[row.id] = row
        self._by_worker.setdefault(worker, {})[row.id] = row
        return row

    def accept(self, worker: WorkerId, stream: StreamId, kind: int, seq: int) -> Row[Owner] | Refusal:
        """The row that a message belongs to; DONE and ERROR delete it."""
        row = self._rows.get(stream)
        if row is None:
            return Refusal.STALE
        if row.worker != worker:
            return Refusal.WRONG_WORKER
        if row.next_in != seq:
            return Refusal.GAP
        row.next_in += 1
        if kind in TERMINATORS:
            self.end(stream)
        return row

    def end(self, stream: StreamId) -> Row[Owner] | None:
        """Delete a row; None if it has gone already."""
        row = self._rows.pop(stream, None)
        if row is not None:
            on_worker = self._by_worker[row.worker]
            del on_worker[stream]
            if not on_worker:
                del self._by_worker[row.worker]
        return row

    def of_worker(self, worker: WorkerId) -> list[Row[Owner]]:
        """All rows of one worker, oldest first."""
        return list(self._by_worker.get(worker, {}).values())

    def rows(self) -> list[Row[Owner]]:
        return list(self._rows.values())
