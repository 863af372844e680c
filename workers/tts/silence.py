"""The silence around a piece of speech, made equal for every engine. Pure.

Engines lead in with 0 to 330 ms of silence and trail out with 10 to 540 ms. What comes before the first sound is
latency, and what comes after the last is a gap between sentences, so both are cut or filled to a fixed length. Only
windows quieter than -60 dBFS count as silence: the floor of the engines here lies below -100 dBFS, a breathed "h" above
-50 dBFS.
"""

from __future__ import annotations

import numpy as np

from workers.tts.engine import Pcm

LEAD_MS = 40
_WINDOW_MS = 5
_SILENT_RMS = 1e-3


def shaped(pcm: Pcm, rate: int, *, tail_ms: int, lead_ms: int = LEAD_MS) -> Pcm:
    """`pcm` with exactly `lead_ms` before its first sound and `tail_ms` after its last; empty if it has none."""
    voiced = _voiced_range(pcm, rate)
    if voiced is None:
        return pcm[:0]
    start, end = voiced
    lead, tail = rate * lead_ms // 1000, rate * tail_ms // 1000
    first, last = max(0, start - lead), min(len(pcm), end + tail)
    before, after = lead - (start - first), tail - (last - end)
    return np.concatenate((np.zeros(before, np.float32), pcm[first:last], np.zeros(after, np.float32)))


def _voiced_range(pcm: Pcm, rate: int) -> tuple[int, int] | None:
    """Samples [start, end) from the first to the last window that is not silent."""
    window = rate * _WINDOW_MS // 1000
    count = -(-len(pcm) // window)
    padded = np.zeros(count * window, np.float32)
    padded[: len(pcm)] = pcm
    blocks = padded.reshape(count, window)
    loud = np.flatnonzero(np.einsum("ij,ij->i", blocks, blocks) > _SILENT_RMS**2 * window)
    if not len(loud):
        return None
    return int(loud[0]) * window, min(len(pcm), (int(loud[-1]) + 1) * window)
