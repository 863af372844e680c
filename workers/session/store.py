"""Where dialogues wait for their device's next connection.

Rules
- A device has one dialogue and one owner: the session that took it last. What an earlier owner returns is dropped.
- A dialogue is kept for a while after its device left, then it is forgotten: a person who comes back later begins
  anew.
- Pure: `now` in seconds comes in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from workers.session.dialogue import Dialogue


class DialogueStore(Protocol):
    """`owner` names one session's life."""

    async def take(self, device: str, owner: str, now: float) -> Dialogue:
        """The device's dialogue, or a new one. It belongs to `owner` from now on."""

    async def give(self, device: str, owner: str, dialogue: Dialogue, now: float) -> None:
        """The session has ended; keep its dialogue for the next one."""


@dataclass(slots=True)
class _Entry:
    owner: str
    dialogue: Dialogue
    left_at: float | None = None
    """None while a session owns it."""


class MemoryStore:
    """In this process only: a device that comes back to another worker begins anew."""

    def __init__(self, *, resume_window_s: float, history_messages: int, most: int) -> None:
        self._resume_window_s = resume_window_s
        self._history_messages = history_messages
        self._most = most
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def take(self, device: str, owner: str, now: float) -> Dialogue:
        self._forget(now)
        entry = self._entries.pop(device, None)
        dialogue = entry.dialogue if entry is not None else Dialogue(self._history_messages)
        self._entries[device] = _Entry(owner, dialogue)
        return dialogue

    async def give(self, device: str, owner: str, dialogue: Dialogue, now: float) -> None:
        entry = self._entries.get(device)
        if entry is None or entry.owner != owner:
            return
        self._entries[device] = _Entry(owner, dialogue, left_at=now)
        self._entries.move_to_end(device)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop what is too old, and the longest gone of what is too many."""
        left = [device for device, entry in self._entries.items() if entry.left_at is not None]
        surplus = len(self._entries) - self._most
        for n, device in enumerate(left):
            left_at = self._entries[device].left_at
            if n < surplus or (left_at is not None and now - left_at > self._resume_window_s):
                del self._entries[device]
