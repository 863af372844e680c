"""Commits that wait for the store, in order, within bounds. Pure: `now` in seconds comes in.

Rules
- A commit joins the one of its device and epoch that waits already, if that is not being written right now: a store
  that was down for a while finds one transaction a device. Nothing is lost by it.
- Beyond `most_commits` or `most_bytes` the oldest commit that is not being written is dropped, whole, and handed back
  to be counted. A single commit is always taken.
- Commits of one device are written in the order they were put. One at a time is being written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from shared.errors import TransitionError
from shared.store.model import Commit, DeviceFacts

MOST_COMMITS: Final = 1000
MOST_BYTES: Final = 32 * 1024 * 1024
FIXED_BYTES: Final = 256
"""What a commit, a message or a parcel takes besides its text, roughly."""


@dataclass(slots=True, eq=False)
class _Waiting:
    commit: Commit
    put_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a commit that was put."""

    joined: bool
    dropped: tuple[Commit, ...] = ()


class CommitQueue:
    def __init__(self, *, most_commits: int = MOST_COMMITS, most_bytes: int = MOST_BYTES) -> None:
        self._most_commits = most_commits
        self._most_bytes = most_bytes
        self._waiting: deque[_Waiting] = deque()
        self._last: dict[tuple[str, int], _Waiting] = {}
        """The commit that the next one of this device and epoch joins."""
        self._is_writing = False
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"CommitQueue({len(self)} commits, {self.size_bytes} bytes, writing={self._is_writing})"

    @property
    def oldest_s(self) -> float | None:
        """When the first commit was put."""
        return self._waiting[0].put_s if self._waiting else None

    def holds(self, device: str) -> bool:
        """Is something of this device not written yet?"""
        return any(waiting.commit.claim.device == device for waiting in self._waiting)

    def put(self, commit: Commit, now: float) -> Put:
        size_bytes = size_of(commit)
        waiting = self._last.get(_key(commit))
        if waiting is not None:
            waiting.commit = joined(waiting.commit, commit)
            waiting.size_bytes += size_bytes
        else:
            new = self._last[_key(commit)] = _Waiting(commit, now, size_bytes)
            self._waiting.append(new)
        self.size_bytes += size_bytes
        return Put(waiting is not None, tuple(self._shrink()))

    def begin(self) -> Commit | None:
        """The commit to be written next; it is joined by no other until `end` or `postpone`."""
        if self._is_writing:
            raise TransitionError("a commit is being written already")
        if not self._waiting:
            return None
        self._is_writing = True
        first = self._waiting[0]
        self._close(first)
        return first.commit

    def end(self) -> None:
        """It is over: written, or given up for good."""
        self._stop_writing()
        self.size_bytes -= self._waiting.popleft().size_bytes

    def postpone(self) -> None:
        """It could not be written; it stays the first, and may be joined again if nothing newer of its kind waits."""
        self._stop_writing()
        first = self._waiting[0]
        self._last.setdefault(_key(first.commit), first)

    def _stop_writing(self) -> None:
        if not self._is_writing:
            raise TransitionError("no commit is being written")
        self._is_writing = False

    def _shrink(self) -> Iterable[Commit]:
        first = 1 if self._is_writing else 0
        while len(self._waiting) > first + 1 and self._is_over():
            dropped = self._waiting[first]
            del self._waiting[first]
            self._close(dropped)
            self.size_bytes -= dropped.size_bytes
            yield dropped.commit

    def _is_over(self) -> bool:
        return len(self._waiting) > self._most_commits or self.size_bytes > self._most_bytes

    def _close(self, waiting: _Waiting) -> None:
        if self._last.get(_key(waiting.commit)) is waiting:
            del self._last[_key(waiting.commit)]


def _key(commit: Commit) -> tuple[str, int]:
    return commit.claim.device, commit.claim.epoch


def joined(first: Commit, second: Commit) -> Commit:
    """Both in one, of the same claim; of facts and notes the second's count."""
    return replace(
        first,
        turns=first.turns + second.turns,
        facts=_newer(first.facts, second.facts),
        notes=tuple((dict(first.notes) | dict(second.notes)).items()),
        parcels=first.parcels + second.parcels,
    )


def _newer(first: DeviceFacts | None, second: DeviceFacts | None) -> DeviceFacts | None:
    if first is None or second is None:
        return first or second
    known = {one.name: value for one in fields(second) if (value := getattr(second, one.name)) is not None}
    return replace(first, **known)


def size_of(commit: Commit) -> int:
    """About how much memory it takes."""
    messages = [message for turn in commit.turns for message in turn.messages]
    calls = [call for message in messages for call in message.calls]
    texts = [message.text for message in messages]
    texts += [call.arguments for call in calls] + [text for _, text in commit.notes]
    things = 1 + len(messages) + len(calls) + len(commit.parcels)
    sizes = [len(text) for text in texts] + [
        len(parcel.audio) + _json_size(parcel.payload) for parcel in commit.parcels
    ]
    return FIXED_BYTES * things + sum(sizes)


def _json_size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_json_size(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return sum(_json_size(part) for part in value)
    return len(value) if isinstance(value, (str, bytes)) else 8
