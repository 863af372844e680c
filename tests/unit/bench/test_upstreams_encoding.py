"""The fakes' sound is really encoded, piece by piece, as a stream nobody can seek in."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from bench.upstreams.encoding import FORMATS, PIECE_MS, encoded
from bench.upstreams.voice import heard, spoken
from shared.marks import Mark

pytestmark = pytest.mark.unit

RATE_HZ = 24_000
MARK = Mark(11, 22)
PCM = spoken(f"{MARK.word} and some more words", RATE_HZ)


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != "pcm"])
def test_another_decoder_hears_what_was_said(format_name: str) -> None:
    """ffmpeg's own reader finds the format by itself and the mark in it."""
    stream = b"".join(encoded(PCM, format_name, RATE_HZ))
    with av.open(io.BytesIO(stream)) as container:
        resampler = av.AudioResampler("s16", "mono", RATE_HZ)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        sound = np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])
    assert heard(sound.tobytes(), RATE_HZ) == MARK.word
    assert len(sound) == pytest.approx(len(PCM) / 2, abs=0.12 * RATE_HZ)


@pytest.mark.parametrize("format_name", FORMATS)
def test_it_comes_in_pieces(format_name: str) -> None:
    """None empty, and the first long before the last."""
    pieces = list(encoded(PCM * 4, format_name, RATE_HZ))
    assert all(pieces)
    assert len(pieces) >= len(PCM * 4) / 2 / RATE_HZ * 1000 / PIECE_MS / 6
    assert len(pieces[0]) < sum(map(len, pieces)) / 2


def test_mp3_is_frames_and_nothing_else() -> None:
    """As Microsoft's service sends it: no tag, no header frame, 144 bytes for each 24 ms."""
    stream = b"".join(encoded(PCM, "mp3", RATE_HZ))
    assert len(stream) % 144 == 0
    assert all(stream[at : at + 2] == b"\xff\xf3" for at in range(0, len(stream), 144))


def test_raw_samples_are_left_as_they_are() -> None:
    """Cut, not changed."""
    assert b"".join(encoded(PCM, "pcm", RATE_HZ)) == PCM
