"""What the microphone hears: what was said to it, then a quiet room. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ops.device.opus import Speech


class Heard(NamedTuple):
    packet: bytes
    is_voiced: bool
    """Part of the speech, not of the silence behind it."""
    is_last: bool
    """The last packet of what was said."""


class Microphone:
    """One packet per frame duration; the silence is shared by all devices of a process."""

    def __init__(self, silence: Sequence[bytes]) -> None:
        self._silence = silence
        self._place = 0
        self._speech: deque[bytes] = deque()
        self._voiced_left = 0

    @property
    def is_quiet(self) -> bool:
        """Everything that was said has been heard."""
        return not self._speech

    def hear(self, speech: Speech) -> None:
        """Speech that is still going on is cut off by the new one."""
        self._speech = deque(speech.packets)
        self._voiced_left = speech.voiced_packets

    def hush(self) -> None:
        """What is still being said is not heard."""
        self._speech.clear()

    def next(self) -> Heard:
        if not self._speech:
            self._place = (self._place + 1) % len(self._silence)
            return Heard(self._silence[self._place], False, False)
        self._voiced_left -= 1
        return Heard(self._speech.popleft(), self._voiced_left >= 0, not self._speech)
