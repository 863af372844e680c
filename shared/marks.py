"""Marks: whose turn a word or a sound belongs to; how simulated devices and scripted engines tell them apart.

A mark is a device's number and a turn's number, each 0 … 63. As a word it is six letters that no text normalisation
touches; as a sound it is two tones, one for each number, above most of a voice's energy and inside what Opus keeps.
One frame of 60 ms is enough to read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUMBERS = 64
_STEP_HZ = 25.0
_DEVICE_HZ = 4000.0
_TURN_HZ = 5800.0
_HALF_GAP_HZ = 100.0
"""Half of the space between the two bands."""
_NEAR_HZ = 8.0
_CLEAR = 12.0
"""A tone stands out if it is so many times stronger than the middle of its band."""
_LEAST_BINS = 8192
_DIGITS = "abcdefghijklmnop"
_WORD = re.compile(r"\bmark([a-p]{4})\b", re.IGNORECASE)

Sound = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    device: int
    turn: int

    @property
    def word(self) -> str:
        numbers = (self.device % NUMBERS, self.turn % NUMBERS)
        return "mark" + "".join(_DIGITS[number // 16] + _DIGITS[number % 16] for number in numbers)

    @property
    def tones_hz(self) -> tuple[float, float]:
        device, turn = self.device % NUMBERS, self.turn % NUMBERS
        return _DEVICE_HZ + _STEP_HZ * device, _TURN_HZ + _STEP_HZ * turn


def marks_in(text: str) -> list[Mark]:
    """All marks whose words stand in a text, in order."""
    found = []
    for match in _WORD.finditer(text):
        first, second, third, fourth = (_DIGITS.index(letter) for letter in match[1].lower())
        found.append(Mark(first * 16 + second, third * 16 + fourth))
    return found


def sound_of(mark: Mark, start: int, end: int, rate: int, level: float) -> Sound:
    """Samples `start` … `end` of the mark's two tones, each of this level (1.0 = full scale)."""
    time_s = np.arange(start, end) / rate
    tones = sum(np.sin(2 * np.pi * hz * time_s) for hz in mark.tones_hz)
    sound: Sound = (level * np.asarray(tones)).astype(np.float32)
    return sound


def mark_of(sound: npt.NDArray[np.floating | np.int16], rate: int) -> Mark | None:
    """The mark that is heard in a sound; None if there is no clear one."""
    if not len(sound):
        return None
    bins = max(_LEAST_BINS, 1 << (len(sound) - 1).bit_length())
    spectrum = np.abs(np.fft.rfft(np.asarray(sound, np.float64) * np.hanning(len(sound)), bins))
    device = _number(spectrum, bins / rate, _DEVICE_HZ)
    turn = _number(spectrum, bins / rate, _TURN_HZ)
    return None if device is None or turn is None else Mark(device, turn)


def _number(spectrum: npt.NDArray[np.float64], bins_per_hz: float, lowest_hz: float) -> int | None:
    low = int((lowest_hz - _HALF_GAP_HZ) * bins_per_hz)
    high = int((lowest_hz + _STEP_HZ * (NUMBERS - 1) + _HALF_GAP_HZ) * bins_per_hz)
    band = spectrum[low:high]
    peak = int(np.argmax(band))
    if band[peak] <= _CLEAR * np.median(band):
        return None
    steps = ((low + peak) / bins_per_hz - lowest_hz) / _STEP_HZ
    number = round(steps)
    is_near = abs(steps - number) * _STEP_HZ <= _NEAR_HZ
    return number if is_near and 0 <= number < NUMBERS else None
