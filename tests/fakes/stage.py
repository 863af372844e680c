"""The test's side of shared.rehearsal: holds scripted engines at a point, sees which process came, gives orders."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Point = Literal["recognising", "thinking", "answering", "synthesising", "speaking"]
Order = Literal["", "hang", "hold_gil", "exit"]


@dataclass(frozen=True)
class Arrival:
    """An engine has come to the point, in this process, at this time (time.time)."""

    pid: int
    at: float


@dataclass(frozen=True)
class StageDirector:
    directory: Path

    def hold(self, point: Point, name: str) -> None:
        """Whoever comes to the point with a text that holds the name waits there."""
        self._cue(point, name).touch()

    def order(self, point: Point, name: str, order: Order) -> None:
        """Have it done by whoever waits there, or comes next."""
        written = self.directory / f"order-{point}"
        written.write_text(order)
        written.rename(self._cue(point, name))

    async def obeyed(self, point: Point, name: str, timeout_s: float = 20.0) -> None:
        """Somebody has taken the order."""
        async with asyncio.timeout(timeout_s):
            while self._cue(point, name).exists():  # noqa: ASYNC110 - another process takes it
                await asyncio.sleep(0.005)

    def release(self, point: Point, name: str) -> None:
        self._cue(point, name).unlink(missing_ok=True)

    def arrivals(self, point: Point, name: str) -> list[Arrival]:
        """In the order in which they came."""
        notes = self.directory.glob(f"{point}~{name}@*")
        return sorted((_arrival(note) for note in notes), key=lambda arrival: arrival.at)

    async def reached(self, point: Point, name: str, *, count: int = 1, timeout_s: float = 20.0) -> Arrival:
        """The `count`-th process that came."""
        async with asyncio.timeout(timeout_s):
            while len(self.arrivals(point, name)) < count:  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.005)
        return self.arrivals(point, name)[count - 1]

    def _cue(self, point: Point, name: str) -> Path:
        return self.directory / f"{point}~{name}"


def _arrival(note: Path) -> Arrival:
    return Arrival(int(note.name.rpartition("@")[2]), note.stat().st_mtime)
