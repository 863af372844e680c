"""What passed between a router and its workers, as a forwarder between them saw it. Pure: messages in, complaints out.

Rules
- A worker answers each OPEN that reached it with one DONE or ERROR, and says nothing more on that stream after it.
- It speaks on no stream that was not opened with it.
- When a connection ends, what was open on it ends too. What the worker had said before it knew may come on its next
  connection: ZeroMQ keeps what is queued.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.trial.judge import Complaint
from shared.errors import WorkerProtocolError
from shared.link.envelope import Kind, unpack_head

ENDS = (Kind.DONE, Kind.ERROR)
_ON_STREAMS = (*ENDS, Kind.AUDIO, Kind.EVENT, Kind.CREDIT)


@dataclass(slots=True)
class _Lane:
    """One connection."""

    open: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)


@dataclass(slots=True)
class WireBook:
    complaints: list[Complaint] = field(default_factory=list)
    opened: int = 0
    ended: int = 0
    lost: int = 0
    """Were open when their connection ended."""
    _lanes: dict[str, _Lane] = field(default_factory=dict)
    _left: dict[str, set[int]] = field(default_factory=dict)
    """Streams of a worker's earlier connections that were open when those ended, by the name before the `#`."""

    @property
    def open(self) -> int:
        return sum(len(lane.open) for lane in self._lanes.values())

    def on_connected(self, lane: str) -> None:
        self._lanes[lane] = _Lane()

    def on_closed(self, lane: str) -> None:
        closed = self._lanes.pop(lane, None)
        if closed is not None:
            self.lost += len(closed.open)
            self._left.setdefault(_worker(lane), set()).update(closed.open)

    def to_worker(self, lane: str, parts: tuple[bytes, ...]) -> None:
        """A message that is handed to the worker."""
        kind, stream = read_head(parts)
        known = self._lanes[lane]
        if kind == Kind.OPEN and stream not in known.open and stream not in known.ended:
            self.opened += 1
            known.open.add(stream)

    def from_worker(self, lane: str, parts: tuple[bytes, ...], now: float) -> None:
        """A message as the worker sent it."""
        kind, stream = read_head(parts)
        if kind not in _ON_STREAMS:
            return
        known = self._lanes[lane]
        if stream in known.ended:
            code = "ended_twice" if kind in ENDS else "spoke_after_end"
            self._complain(code, lane, now, f"{Kind(kind).name} on stream {stream}")
        elif stream not in known.open and stream not in self._left.get(_worker(lane), ()):
            self._complain("spoke_unopened", lane, now, f"{Kind(kind).name} on stream {stream}")
        elif kind in ENDS and stream in known.open:
            known.open.remove(stream)
            known.ended.add(stream)
            self.ended += 1

    def at_rest(self, now: float) -> None:
        """All devices have gone: nothing is open on any connection."""
        for name, lane in self._lanes.items():
            if lane.open:
                self._complain("stream_left_open", name, now, f"{len(lane.open)} streams")

    def _complain(self, code: str, lane: str, now: float, words: str) -> None:
        self.complaints.append(Complaint(code, lane, round(now, 3), words))


def _worker(lane: str) -> str:
    return lane.partition("#")[0]


def read_head(parts: tuple[bytes, ...]) -> tuple[int, int]:
    """(kind, stream) of a link message; (0, 0) of anything else."""
    try:
        head = unpack_head(parts[0])
    except (WorkerProtocolError, IndexError):
        return 0, 0
    return head.kind, int(head.stream)
