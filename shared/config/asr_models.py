"""The kinds of recognition model that are known, by what lies in their directories. Data only.

Sources: the release pages and export scripts of github.com/k2-fsa/sherpa-onnx (file names, metadata), and
github.com/SYSTRAN/faster-whisper.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.config.model_kinds import Kind, Metadata

SHERPA_RELEASES = "https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models"
SENSE_VOICE_RELEASE = (
    "https://github.com/k2-fsa/sherpa-onnx/releases/download/asr-models/"
    "sherpa-onnx-sense-voice-zh-en-ja-ko-yue-int8-2024-07-17.tar.bz2"
)
_TOKENS = ("tokens.txt", "*tokens.txt")
_ONE_FILE = ("model.int8.onnx", "*.int8.onnx", "model.onnx", "*model*.onnx")
_ENCODER = ("*encoder*.int8.onnx", "*encoder*.onnx")
_DECODER = ("*decoder*.int8.onnx", "*decoder*.onnx")
_PLAIN_DECODER = ("*decoder*[!8].onnx", "*decoder*.onnx")
"""A transducer's decoder is small: quantising it gains nothing."""
_JOINER = ("*joiner*.int8.onnx", "*joiner*.onnx")

STREAMING_MARKS = ("decode_chunk_len", "window_size")
"""What only the encoders of streaming models tell: Zipformer, Conformer and LSTM; NeMo."""
STREAMING_PARAFORMER_MARK = "encoder_output_size"


def _streams(metadata: Metadata) -> bool:
    return any(mark in metadata for mark in STREAMING_MARKS)


def _is(*types: str) -> Callable[[Metadata], bool]:
    return lambda metadata: not _streams(metadata) and metadata.get("model_type", "").startswith(types)


SENSE_VOICE = Kind(
    "sense_voice",
    "SenseVoice",
    {"model": _ONE_FILE, "tokens": _TOKENS},
    _is("sense_voice"),
    source=SENSE_VOICE_RELEASE,
)
PARAFORMER = Kind(
    "paraformer", "Paraformer", {"model": _ONE_FILE, "tokens": _TOKENS}, _is("paraformer"), source=SHERPA_RELEASES
)
ZIPFORMER_CTC = Kind(
    "zipformer_ctc",
    "Zipformer CTC",
    {"model": _ONE_FILE, "tokens": _TOKENS},
    _is("zipformer2_ctc"),
    source=SHERPA_RELEASES,
)
NEMO_CTC = Kind("nemo_ctc", "NeMo CTC", {"model": _ONE_FILE, "tokens": _TOKENS}, _is("EncDec"), source=SHERPA_RELEASES)
TRANSDUCER = Kind(
    "transducer",
    "Zipformer transducer",
    {"encoder": _ENCODER, "decoder": _PLAIN_DECODER, "joiner": _JOINER, "tokens": _TOKENS},
    lambda metadata: not _streams(metadata),
    source=SHERPA_RELEASES,
)
WHISPER_ONNX = Kind(
    "whisper",
    "Whisper",
    {"encoder": _ENCODER, "decoder": _DECODER, "tokens": _TOKENS},
    _is("whisper"),
    source=SHERPA_RELEASES,
)
STREAMING_TRANSDUCER = Kind(
    "streaming_transducer",
    "streaming Zipformer transducer",
    {"encoder": _ENCODER, "decoder": _PLAIN_DECODER, "joiner": _JOINER, "tokens": _TOKENS},
    _streams,
    source=SHERPA_RELEASES,
)
STREAMING_PARAFORMER = Kind(
    "streaming_paraformer",
    "streaming Paraformer",
    {"encoder": _ENCODER, "decoder": _DECODER, "tokens": _TOKENS},
    lambda metadata: STREAMING_PARAFORMER_MARK in metadata,
    source=SHERPA_RELEASES,
)
STREAMING_CTC = Kind(
    "streaming_ctc",
    "streaming Zipformer CTC",
    {"model": _ONE_FILE, "tokens": _TOKENS},
    _streams,
    source=SHERPA_RELEASES,
)

SHERPA_KINDS = (
    STREAMING_TRANSDUCER,
    TRANSDUCER,
    STREAMING_PARAFORMER,
    WHISPER_ONNX,
    SENSE_VOICE,
    PARAFORMER,
    ZIPFORMER_CTC,
    NEMO_CTC,
    STREAMING_CTC,
)
"""In the order in which they are tried; those of more files come first."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "zipformer": ("transducer", "streaming_transducer", "zipformer_ctc", "streaming_ctc"),
    "transducer": ("transducer", "streaming_transducer"),
    "paraformer": ("paraformer", "streaming_paraformer"),
    "zipformer_ctc": ("zipformer_ctc", "streaming_ctc"),
} | {kind.name: (kind.name,) for kind in (SENSE_VOICE, NEMO_CTC, WHISPER_ONNX)}
"""What an operator may write as `model_type`, and the kinds that it allows."""

WHISPER = Kind(
    "whisper",
    "faster-whisper",
    {
        "model": ("model.bin",),
        "config": ("config.json",),
        "tokenizer": ("tokenizer.json",),
        "vocabulary": ("vocabulary.txt", "vocabulary.json", "vocabulary.*"),
    },
    source="https://huggingface.co/Systran/faster-whisper-base, or another size there",
)
WHISPER_REPOSITORIES = {
    size: f"Systran/faster-whisper-{size}"
    for size in (
        *("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
        *("large-v1", "large-v2", "large-v3"),
    )
} | {
    "large": "Systran/faster-whisper-large-v3",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
"""Size → where it is kept on huggingface.co; the names that faster-whisper knows."""
