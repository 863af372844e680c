"""The kinds of voice that are computed on this machine, by what lies in their directories. Data only.

Sources: the release page and export scripts of github.com/k2-fsa/sherpa-onnx (file names, metadata), and
github.com/OHF-Voice/piper1-gpl.
"""

from __future__ import annotations

from shared.config.model_kinds import Kind, Metadata

SHERPA_VOICES = "https://github.com/k2-fsa/sherpa-onnx/releases/tag/tts-models"
PIPER_VOICES = "https://huggingface.co/rhasspy/piper-voices"
PIPER_EXPECTED = "a Piper voice's .onnx file with its .onnx.json beside it, or a directory that holds one such pair"

_ONE_FILE = ("model.int8.onnx", "*.int8.onnx", "model.onnx", "*.onnx")
_EXTRAS = {
    "lexicon": ("lexicon.txt",),
    "lexicon_en": ("lexicon-us-en.txt", "lexicon-en-us.txt", "lexicon-gb-en.txt"),
    "lexicon_zh": ("lexicon-zh.txt",),
    "date_fst": ("date.fst", "date-zh.fst"),
    "number_fst": ("number.fst", "number-zh.fst"),
    "phone_fst": ("phone.fst", "phone-zh.fst"),
}


def _is_vits(metadata: Metadata) -> bool:
    return metadata.get("model_type", "").startswith(("vits", "melo"))


def _is_kokoro(metadata: Metadata) -> bool:
    return metadata.get("model_type", "").startswith("kokoro")


def _is_matcha(metadata: Metadata) -> bool:
    return metadata.get("model_type", "").startswith("matcha")


KOKORO = Kind(
    "kokoro",
    "Kokoro",
    {"model": _ONE_FILE, "voices": ("voices.bin",), "tokens": ("tokens.txt",)},
    _is_kokoro,
    _EXTRAS,
    SHERPA_VOICES,
)
MATCHA = Kind(
    "matcha",
    "Matcha-TTS",
    {"acoustic_model": ("model-steps-*.onnx",), "vocoder": ("vocos*.onnx", "hifigan*.onnx"), "tokens": ("tokens.txt",)},
    _is_matcha,
    _EXTRAS,
    SHERPA_VOICES,
)
VITS = Kind("vits", "VITS", {"model": _ONE_FILE, "tokens": ("tokens.txt",)}, _is_vits, _EXTRAS, SHERPA_VOICES)

SHERPA_VOICE_KINDS = (KOKORO, MATCHA, VITS)
