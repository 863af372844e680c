"""The model that a section of a local recogniser names: found and checked before anything is started."""

from __future__ import annotations

from shared.config.asr_models import FAMILIES, SHERPA_KINDS, WHISPER
from shared.config.model_files import Model, find_model, need_package
from shared.config.options.sherpa import SherpaAsrOptions
from shared.config.options.whisper import WhisperAsrOptions
from shared.settings import EngineChoice

SHERPA_TYPES = ("sherpa", "sherpa_onnx_local", "fun_local")


def whisper_model(choice: EngineChoice, options: WhisperAsrOptions) -> Model | None:
    """None if the section names a size, which is looked for when it is loaded. Raises ConfigError."""
    need_package(f"ASR.{choice.name}.type", choice.type, "faster_whisper", "whisper")
    if not options.directory:
        return None
    key = "model_dir" if options.model_dir else "model"
    return find_model(f"ASR.{choice.name}.{key}", options.directory, (WHISPER,))


def sherpa_model(choice: EngineChoice, options: SherpaAsrOptions) -> Model:
    """Raises ConfigError."""
    need_package(f"ASR.{choice.name}.type", choice.type, "sherpa_onnx", "sherpa")
    wanted = FAMILIES[options.model_type] if options.model_type else ()
    return find_model(f"ASR.{choice.name}.model_dir", options.model_dir, SHERPA_KINDS, wanted)


def check_local_asr(choice: EngineChoice) -> None:
    """Of any section; nothing is loaded. Raises ConfigError."""
    if choice.type == "whisper":
        whisper_model(choice, WhisperAsrOptions.of(choice))
    elif choice.type in SHERPA_TYPES:
        sherpa_model(choice, SherpaAsrOptions.of(choice))
