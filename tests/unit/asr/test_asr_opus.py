"""Packets to PCM: every packet becomes audio time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EngineError
from shared.link.messages import OpenAsr
from tests.fakes.speech import frames, packets, silence, tone
from workers.asr.opus import MAX_PACKET_BYTES, OpusDecoder, PcmDecoder, make_decoder, nominal_frame_ms

pytestmark = pytest.mark.unit


def loudness(pcm: np.ndarray) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2)))


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
def test_each_packet_yields_its_own_length(frame_ms: int) -> None:
    """Opus carries its length itself; the announced one is only for what is lost."""
    decoder = OpusDecoder(60)
    sizes = [len(decoder.decode(packet)) for packet in packets(tone(240), frame_ms)]
    assert set(sizes) == {frame_ms * 16}
    assert decoder.bad_packets == 0


def test_the_sound_comes_through() -> None:
    """What is decoded is as loud as what was spoken, and pitched the same."""
    decoder = OpusDecoder(60)
    heard = np.concatenate([decoder.decode(packet) for packet in packets(tone(1200, hz=440.0))])
    spectrum = np.abs(np.fft.rfft(heard[4000:12000] * np.hanning(8000)))
    assert abs(float(np.argmax(spectrum)) * 2 - 440) <= 4
    assert 0.7 < loudness(heard[4000:]) / loudness(tone(1200)) < 1.3


@pytest.mark.parametrize("packet", [b"\x08", b"\x08\x00", b"\x58", b"\x58\x00"])
def test_dtx_packets_are_frames(packet: bytes) -> None:
    """One- and two-byte packets are what the firmware sends in silence; they are no errors."""
    decoder = OpusDecoder(60)
    assert len(decoder.decode(packet)) > 0
    assert decoder.bad_packets == 0


@pytest.mark.parametrize("packet", [b"\xff" * 40, b"\x03", bytes([0x1B, 0xFF]), bytes(MAX_PACKET_BYTES + 1)])
def test_a_bad_packet_is_counted_and_concealed(packet: bytes) -> None:
    """Garbage, an impossible frame count, a packet over 4,000 bytes: one nominal frame of time passes."""
    decoder = OpusDecoder(60)
    for good in packets(tone(300)):
        decoder.decode(good)
    assert len(decoder.decode(packet)) == 960
    assert decoder.bad_packets == 1
    assert len(decoder.decode(packets(tone(60))[0])) == 960


def test_a_frame_longer_than_120_ms_is_refused() -> None:
    """Three 60 ms frames in one packet are not Opus."""
    packet = bytes([0x5B, 0x03]) + bytes(30)
    decoder = OpusDecoder(20)
    assert len(decoder.decode(packet)) == 320
    assert decoder.bad_packets == 1


@given(st.binary(min_size=1, max_size=300))
def test_no_packet_raises_or_stops_time(packet: bytes) -> None:
    """Whatever arrives, between one sample and 120 ms of time pass."""
    assert 0 < len(OpusDecoder(60).decode(packet)) <= 1920


def test_two_streams_do_not_share_a_decoder() -> None:
    """Silence on one stream stays silence while another one is loud."""
    loud, quiet = OpusDecoder(60), OpusDecoder(60)
    heard = 0.0
    for sound, nothing in zip(packets(tone(600)), packets(silence(600)), strict=True):
        loud.decode(sound)
        heard = max(heard, loudness(quiet.decode(nothing)))
    assert heard < 2


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_pcm_is_resampled_as_a_stream(rate_hz: int) -> None:
    """A second at any rate is a second at 16 kHz, without a seam between frames."""
    time_s = np.arange(rate_hz) / rate_hz
    sound = (8000 * np.sin(2 * np.pi * 440 * time_s)).astype(np.int16)
    decoder = PcmDecoder(rate_hz, 60)
    size = rate_hz * 60 // 1000
    heard = [decoder.decode(sound[at : at + size].tobytes()) for at in range(0, rate_hz, size)]
    whole = np.concatenate([*heard, decoder.flush()])
    assert abs(len(whole) - 16_000) <= 2
    assert np.max(np.abs(np.diff(whole.astype(int)))) < 2000


@pytest.mark.parametrize("packet", [b"\x00", b"\x00" * 3, bytes(16 * 121 * 2)])
def test_bad_pcm_is_counted_and_replaced(packet: bytes) -> None:
    """Half a sample, or more than 120 ms: silence of a nominal frame."""
    decoder = PcmDecoder(16_000, 60)
    assert len(decoder.decode(packet)) == 960
    assert decoder.bad_packets == 1


def test_a_rate_that_no_microphone_has_is_refused() -> None:
    """The stream is not opened."""
    with pytest.raises(EngineError) as refusal:
        make_decoder(OpenAsr("s", "auto", 0, 0, format="pcm", sample_rate=100))
    assert refusal.value.code == "bad_format"


def test_pcm_frames_pass_unchanged_at_16_khz() -> None:
    """Nothing is resampled that need not be."""
    decoder = make_decoder(OpenAsr("s", "auto", 0, 0, format="pcm"))
    assert decoder.decode(frames(tone(60))[0]).tobytes() == frames(tone(60))[0]


@pytest.mark.parametrize(("announced", "known"), [(60, 60), (0, 5), (61, 60), (1000, 120), (20, 20)])
def test_an_announced_frame_length_is_made_one_opus_knows(announced: int, known: int) -> None:
    """Concealment needs a length libopus accepts."""
    assert nominal_frame_ms(announced) == known
