"""Where a Piper voice lies."""

from __future__ import annotations

from pathlib import Path

from shared.config.tts_models import PIPER_EXPECTED, PIPER_VOICES
from shared.errors import ConfigError


def piper_files(key: str, path: str) -> tuple[Path, Path]:
    """A voice's model and its description. Raises ConfigError of the key `key`."""
    model = Path(path)
    if model.is_dir():
        models = sorted(model.glob("*.onnx"))
        if len(models) != 1:
            raise _no_piper(key, path, f"it holds {len(models)} .onnx files")
        model = models[0]
    description = Path(f"{model}.json")
    for file in (model, description):
        if not file.is_file():
            raise _no_piper(key, path, f"there is no file {file.name}")
    return model, description


def _no_piper(key: str, path: str, fault: str) -> ConfigError:
    return ConfigError(key, path, f"{PIPER_EXPECTED}; {fault}. Get one: {PIPER_VOICES}")
