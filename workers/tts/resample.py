"""Brings an engine's chunks to the rate of the encoder, with one filter state for a whole segment."""

from __future__ import annotations

import numpy as np
import soxr

from workers.tts.engine import Later, Pcm, Speech


def resampled(speech: Speech, from_rate: int, to_rate: int) -> Speech:
    """The same speech at `to_rate`; chunks of no samples are left out."""
    if from_rate == to_rate:
        yield from speech
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for item in speech:
        out = item if isinstance(item, Later) else _chunk(stream, item, last=False)
        if isinstance(out, Later) or len(out):
            yield out
    rest = _chunk(stream, np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest


def _chunk(stream: soxr.ResampleStream, pcm: Pcm, *, last: bool) -> Pcm:
    out: Pcm = stream.resample_chunk(pcm, last=last)
    return out
