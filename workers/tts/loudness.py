"""How loud a voice is, made equal for every voice that differs from piece to piece. Pure."""

from __future__ import annotations

import numpy as np

from workers.tts.engine import Pcm

_LEVEL_RMS = 10 ** (-21 / 20)
"""-21 dBFS, as the embedded voices are."""
_QUIET = 1e-3
_HIGHEST = 0.98


def levelled(pcm: Pcm) -> Pcm:
    """The same sound at the level of the other voices, as far as its peaks allow; silence stays silence."""
    loudest = float(np.abs(pcm).max(initial=0.0))
    if loudest < _QUIET:
        return pcm
    rms = float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))))
    return pcm * np.float32(min(_LEVEL_RMS / rms, _HIGHEST / loudest))
