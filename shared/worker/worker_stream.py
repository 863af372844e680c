"""One open stream as its job sees it: `shared.worker.service.Stream`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.ids import StreamId
from shared.link.envelope import Kind
from shared.link.messages import Body, Done
from shared.worker.service import Job

if TYPE_CHECKING:
    from shared.worker.peer import RouterPeer


class WorkerStream:
    """One open stream: `shared.worker.service.Stream`."""

    __slots__ = ("_is_open", "_peer", "id", "job", "next_in", "next_out")

    def __init__(self, peer: RouterPeer, stream: StreamId) -> None:
        self.id = stream
        self.job: Job | None = None
        self.next_in = 1  # OPEN was 0
        self.next_out = 0
        self._peer = peer
        self._is_open = True

    def __repr__(self) -> str:
        return (
            f"WorkerStream({self.id}, {'open' if self._is_open else 'ended'}, in {self.next_in}, out {self.next_out})"
        )

    @property
    def is_open(self) -> bool:
        return self._is_open

    def close(self) -> None:
        """Nothing is sent on it any more."""
        self._is_open = False

    def audio(self, packet: bytes) -> None:
        if self._is_open:
            self._peer.send_audio(self, packet)

    def event(self, body: Body) -> None:
        if self._is_open:
            self._peer.send_control(self, Kind.EVENT, body)

    def credit(self, body: Body) -> None:
        if self._is_open:
            self._peer.send_control(self, Kind.CREDIT, body)

    def done(self, **stats: Any) -> None:
        self._peer.end(self, Kind.DONE, Done(stats=stats), "done")

    def error(self, code: str, *, retryable: bool = False, message: str = "") -> None:
        self._peer.end(self, Kind.ERROR, self._peer.error_body(code, retryable, message), code)
