"""Silence, resampling and Opus: what happens to samples between engine and device."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes.tts_stream import decoded, pitch_hz
from workers.tts.engine import Later, Pcm, Speech
from workers.tts.opus import FRAME_SAMPLES, OpusEncoder
from workers.tts.resample import resampled
from workers.tts.silence import shaped

pytestmark = pytest.mark.unit


def tone(samples: int, hz: float = 440, rate: int = 24_000) -> Pcm:
    sound: Pcm = (0.3 * np.sin(np.arange(samples) * 2 * np.pi * hz / rate)).astype(np.float32)
    return sound


def packets_of(*chunks: Pcm) -> list[bytes]:
    encoder = OpusEncoder(5)
    packets = [packet for chunk in chunks for packet in encoder.encode(chunk)]
    return packets + list(encoder.finish())


@pytest.mark.parametrize(("before", "after"), [(0, 0), (100, 100), (9000, 12000), (960, 5760)])
def test_silence_around_speech_has_a_fixed_length(before: int, after: int) -> None:
    """Lead and tail are cut or filled to the same length for every engine, to within a window of 5 ms."""
    pcm = np.concatenate((np.zeros(before, np.float32), tone(4800), np.zeros(after, np.float32)))
    result = shaped(pcm, 24_000, lead_ms=40, tail_ms=240)
    assert abs(len(result) - (960 + 4800 + 5760)) <= 240
    first, last = np.flatnonzero(np.abs(result) > 0.01)[[0, -1]]
    assert abs(first - 960) <= 120
    assert abs(len(result) - last - 5760) <= 120


def test_a_quiet_onset_is_speech() -> None:
    """A breath at -50 dBFS before the word is kept whole."""
    breath = tone(2400) * np.float32(0.02)
    result = shaped(np.concatenate((np.zeros(4800, np.float32), breath, tone(4800))), 24_000, lead_ms=0, tail_ms=0)
    assert len(result) >= 7200


def test_silence_alone_is_nothing() -> None:
    """A piece without sound takes no time."""
    assert len(shaped(np.zeros(24_000, np.float32), 24_000, tail_ms=240)) == 0
    assert len(shaped(np.zeros(0, np.float32), 24_000, tail_ms=240)) == 0


def test_the_same_samples_are_the_same_packets_however_they_are_chunked() -> None:
    """A segment's frames depend on its samples alone, so cached, fresh and re-issued frames mix."""
    sound = tone(24_000)
    whole = packets_of(sound)
    assert packets_of(*np.array_split(sound, 7)) == whole
    assert packets_of(sound[:1], sound[1:5000], sound[5000:]) == whole


@pytest.mark.parametrize("samples", [1, 1284, 1285, 1440, 24_000])
def test_nothing_of_the_sound_is_lost_at_the_end(samples: int) -> None:
    """The last frame is filled with silence and carries what the encoder holds back."""
    sound = tone(samples)
    heard = decoded(packets_of(sound))
    assert len(heard) % FRAME_SAMPLES == 0
    assert len(heard) >= samples + OpusEncoder(5).lookahead_samples
    assert len(heard) < samples + 2 * FRAME_SAMPLES


def test_no_samples_are_no_packets() -> None:
    """An engine that said nothing sends nothing."""
    assert packets_of() == []
    assert packets_of(np.zeros(0, np.float32)) == []


def test_the_encoder_takes_strided_and_loud_samples() -> None:
    """Whatever numpy hands over, and whatever its level, is a valid packet of moderate size."""
    loud = np.ascontiguousarray(np.stack((tone(24_000), tone(24_000)), 1) * np.float32(40))[:, 0]
    packets = packets_of(loud)
    assert len(decoded(packets)) == len(packets) * FRAME_SAMPLES
    assert max(map(len, packets)) < 600


def test_resampling_keeps_pitch_and_length() -> None:
    """22,050 Hz in chunks comes out at 24,000 Hz, with Later passed through."""

    def speech() -> Speech:
        for chunk in np.array_split(tone(22_050, 440, 22_050), 5):
            yield chunk
            yield Later(5)

    items = list(resampled(speech(), 22_050, 24_000))
    sound = np.concatenate([item for item in items if not isinstance(item, Later)])
    assert sum(isinstance(item, Later) for item in items) == 5
    assert abs(len(sound) - 24_000) <= 2
    assert pitch_hz(sound) == pytest.approx(440, abs=2)
