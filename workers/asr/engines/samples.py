"""Sound as models take it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""One channel, -1 to 1."""


def samples_of(pcm: bytes) -> Samples:
    """Of s16le; half a sample at the end is left out."""
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / 32768.0
