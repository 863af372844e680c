"""The device's Opus: what its microphone sends (16 kHz, complexity 0, DTX on) and what its speaker decodes (24 kHz)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import opuslib
import opuslib.api.ctl
import opuslib.api.encoder

MIC_RATE = 16_000
SPEAKER_RATE = 24_000
MIC_FRAME_SAMPLES = 960

Pcm = npt.NDArray[np.int16]

_SILENCE_FRAMES = 50
"""Three seconds; DTX refreshes its noise estimate every 400 ms, so a loop needs several of those."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Something said, ready to send."""

    packets: tuple[bytes, ...]
    voiced_packets: int
    """The last packet with speech in it is number voiced_packets - 1; the rest is silence."""

    @property
    def duration_s(self) -> float:
        return len(self.packets) * 0.06


class MicrophoneEncoder:
    """An Opus encoder set as the firmware sets it (main/audio/audio_service.h)."""

    def __init__(self) -> None:
        self._encoder = opuslib.Encoder(MIC_RATE, 1, opuslib.APPLICATION_AUDIO)
        self._encoder.complexity = 0
        # opuslib 3.0.1's own `dtx` property sets nothing.
        opuslib.api.encoder.encoder_ctl(self._encoder.encoder_state, opuslib.api.ctl.set_dtx, 1)

    def encode(self, pcm: Pcm) -> tuple[bytes, ...]:
        """Whole frames; the last one is filled up with silence."""
        padded = np.pad(pcm, (0, -len(pcm) % MIC_FRAME_SAMPLES))
        frames = padded.reshape(-1, MIC_FRAME_SAMPLES)
        return tuple(self._encoder.encode(frame.tobytes(), MIC_FRAME_SAMPLES) for frame in frames)


def encode_speech(pcm: Pcm) -> Speech:
    """16 kHz samples as a device would send them."""
    return Speech(MicrophoneEncoder().encode(pcm), _voiced_frames(pcm))


def silence() -> tuple[bytes, ...]:
    """What the microphone sends in a quiet room, to be repeated; mostly packets of one or two bytes."""
    encoder = MicrophoneEncoder()
    encoder.encode(np.zeros(MIC_FRAME_SAMPLES * 20, np.int16))
    return encoder.encode(np.zeros(MIC_FRAME_SAMPLES * _SILENCE_FRAMES, np.int16))


def decode(packets: list[bytes], frame_s: float) -> Pcm:
    """Downlink packets as 24 kHz samples. A broken packet is skipped, as the firmware does."""
    decoder = opuslib.Decoder(SPEAKER_RATE, 1)
    samples = int(SPEAKER_RATE * frame_s)
    parts: list[Pcm] = []
    for packet in packets:
        try:
            parts.append(np.frombuffer(decoder.decode(packet, samples), np.int16))
        except opuslib.OpusError:
            continue
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def _voiced_frames(pcm: Pcm) -> int:
    """Frames up to the last one that is louder than 30 dB under the loudest."""
    padded = np.pad(pcm, (0, -len(pcm) % MIC_FRAME_SAMPLES)).astype(np.float64)
    energy = np.square(padded.reshape(-1, MIC_FRAME_SAMPLES)).mean(axis=1)
    if not energy.size or not energy.max():
        return int(energy.size)
    return int(np.flatnonzero(energy > energy.max() / 1000)[-1]) + 1
