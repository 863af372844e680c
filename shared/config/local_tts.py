"""The voice that a section of a local engine names: found and checked before anything is started."""

from __future__ import annotations

from shared.config.model_files import Model, find_model, need_package
from shared.config.options.piper import PiperTtsOptions
from shared.config.options.sherpa import SherpaTtsOptions
from shared.config.piper_voice import piper_files
from shared.config.tts_models import SHERPA_VOICE_KINDS
from shared.settings import EngineChoice

_LIBRARIES = {"piper": "piper", "sherpa": "sherpa_onnx"}
"""What a type needs beside the project's own dependencies; the extra is named after the type."""


def need_library(choice: EngineChoice) -> None:
    """Raises ConfigError."""
    if choice.type in _LIBRARIES:
        need_package(f"TTS.{choice.name}.type", choice.type, _LIBRARIES[choice.type], choice.type)


def sherpa_voice(section: str, options: SherpaTtsOptions) -> Model:
    """Raises ConfigError."""
    wanted = (options.model_type,) if options.model_type else ()
    return find_model(f"TTS.{section}.model_dir", options.model_dir, SHERPA_VOICE_KINDS, wanted)


def check_local_tts(choice: EngineChoice) -> None:
    """Of any section; nothing is loaded. Raises ConfigError."""
    need_library(choice)
    if choice.type == "sherpa":
        sherpa_voice(choice.name, SherpaTtsOptions.of(choice))
    elif choice.type == "piper":
        piper_files(f"TTS.{choice.name}.model", PiperTtsOptions.of(choice).model)
