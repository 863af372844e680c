"""The sherpa-onnx model of a child process, offline or streaming.

Rules: an offline model hears the utterance at its end; a streaming one as it comes, and the silence that its last
window needs is added at the end. Sound too short for one window is made longer with silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sherpa_onnx import OfflineRecognizer, OnlineRecognizer

from workers.asr.engines.model_child import Heard, Hearing
from workers.asr.engines.samples import Samples, samples_of
from workers.asr.timeline import RATE_HZ

LEAST_SAMPLES = RATE_HZ // 2
TAIL = np.zeros(RATE_HZ * 2 // 3, np.float32)
"""As long as the largest window of a streaming Zipformer (decode_chunk_len 64, of 10 ms)."""

Files = dict[str, str]
Recogniser = OfflineRecognizer | OnlineRecognizer


def _shared(options: dict[str, Any]) -> dict[str, Any]:
    return {"num_threads": options["threads"], "provider": options["provider"]}


def _searching(options: dict[str, Any]) -> dict[str, Any]:
    """Of a transducer."""
    return _shared(options) | {
        "decoding_method": options["decoding_method"],
        "hotwords_file": options["hotwords_file"],
    }


MAKERS: dict[str, Callable[[Files, dict[str, Any]], Any]] = {
    "sense_voice": lambda files, options: OfflineRecognizer.from_sense_voice(
        **files, language=options["language"], use_itn=options["use_itn"], **_shared(options)
    ),
    "paraformer": lambda files, options: OfflineRecognizer.from_paraformer(
        paraformer=files["model"], tokens=files["tokens"], **_shared(options)
    ),
    "zipformer_ctc": lambda files, options: OfflineRecognizer.from_zipformer_ctc(**files, **_shared(options)),
    "nemo_ctc": lambda files, options: OfflineRecognizer.from_nemo_ctc(**files, **_shared(options)),
    "transducer": lambda files, options: OfflineRecognizer.from_transducer(**files, **_searching(options)),
    "whisper": lambda files, options: OfflineRecognizer.from_whisper(
        **files, language=options["language"], **_shared(options)
    ),
    "streaming_transducer": lambda files, options: OnlineRecognizer.from_transducer(**files, **_searching(options)),
    "streaming_paraformer": lambda files, options: OnlineRecognizer.from_paraformer(**files, **_shared(options)),
    "streaming_ctc": lambda files, options: OnlineRecognizer.from_zipformer2_ctc(**files, **_shared(options)),
}
"""By the kind's name in shared.config.asr_models; the parts of a kind are the library's arguments."""


class OfflineHearing:
    """One utterance, heard at its end."""

    def __init__(self, recogniser: OfflineRecognizer) -> None:
        self._recogniser = recogniser
        self._pcm = bytearray()

    def feed(self, pcm: bytes) -> str:
        self._pcm += pcm
        return ""

    def finish(self) -> Heard:
        samples = samples_of(bytes(self._pcm))
        if not samples.any():
            return "", None
        stream = self._recogniser.create_stream()
        stream.accept_waveform(RATE_HZ, _long_enough(samples))
        self._recogniser.decode_stream(stream)
        result = stream.result
        return result.text.strip(), getattr(result, "lang", "").strip("<|>") or None


class StreamingHearing:
    """One utterance, heard as it comes."""

    def __init__(self, recogniser: OnlineRecognizer) -> None:
        self._recogniser = recogniser
        self._stream = recogniser.create_stream()
        self._has_sound = False

    def feed(self, pcm: bytes) -> str:
        samples = samples_of(pcm)
        self._has_sound = self._has_sound or bool(samples.any())
        self._stream.accept_waveform(RATE_HZ, samples)
        return self._decoded()

    def finish(self) -> Heard:
        if not self._has_sound:
            return "", None
        self._stream.accept_waveform(RATE_HZ, TAIL)
        self._stream.input_finished()
        return self._decoded(), None

    def _decoded(self) -> str:
        while self._recogniser.is_ready(self._stream):
            self._recogniser.decode_stream(self._stream)
        text: str = self._recogniser.get_result(self._stream)
        return text.strip()


class LoadedSherpa:
    """Shared by all utterances."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._recogniser = MAKERS[options["model"]](options["files"], options)
        hearing = self.hear(None)
        hearing.feed(np.full(RATE_HZ, 100, np.int16).tobytes())
        hearing.finish()

    def hear(self, language: str | None) -> Hearing:
        if isinstance(self._recogniser, OnlineRecognizer):
            return StreamingHearing(self._recogniser)
        return OfflineHearing(self._recogniser)


def make_model(options: dict[str, Any]) -> LoadedSherpa:
    return LoadedSherpa(options)


def _long_enough(samples: Samples) -> Samples:
    return np.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples))))
