"""The dialogues of devices that have just left, for as long as a store that is down or slow cannot give them back.

Rules
- A dialogue is kept for the resume window, then it is forgotten: a person who comes back later begins anew.
- What the store says replaces it: another worker may have gone on with the dialogue meanwhile.
- Pure: `now` in seconds comes in.
"""

from __future__ import annotations

from collections import OrderedDict

from workers.session.dialogue import Dialogue


class RecentDialogues:
    """By device, the longest gone first; at most `most`."""

    def __init__(self, *, window_s: float, most: int) -> None:
        self._window_s = window_s
        self._most = most
        self._left: OrderedDict[str, tuple[float, Dialogue]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def __repr__(self) -> str:
        return f"RecentDialogues({len(self)} of {self._most})"

    def take(self, device: str, now: float) -> Dialogue | None:
        """The device is back."""
        self._forget(now)
        found = self._left.pop(device, None)
        return None if found is None else found[1]

    def keep(self, device: str, dialogue: Dialogue, now: float) -> None:
        """The device has left."""
        self._left[device] = (now, dialogue)
        self._left.move_to_end(device)
        self._forget(now)

    def drop(self, device: str) -> None:
        """It was claimed elsewhere, or is to be forgotten."""
        self._left.pop(device, None)

    def _forget(self, now: float) -> None:
        while self._left:
            left_s, _ = next(iter(self._left.values()))
            if len(self._left) <= self._most and now - left_s <= self._window_s:
                return
            self._left.popitem(last=False)
