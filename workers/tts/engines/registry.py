"""Engine types by the name they have in configuration, and their construction from a configured section."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from shared.errors import ConfigError
from shared.settings import EngineChoice
from workers.tts.engine import TtsEngine

_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "embedded": "workers.tts.engines.embedded:EmbeddedEngine",
        "hibari": "workers.tts.engines.hibari:HibariEngine",
        "espeak": "workers.tts.engines.espeak:EspeakEngine",
        "sine": "workers.tts.engines.sine:SineEngine",
    }
)
TYPES = tuple(_CLASSES)


def build(choice: EngineChoice) -> TtsEngine:
    """The engine of a section, not loaded yet; what it needs is imported only now."""
    if choice.type not in _CLASSES:
        raise ConfigError(f"TTS.{choice.name}.type", choice.type, "one of " + ", ".join(TYPES))
    module, _, name = _CLASSES[choice.type].partition(":")
    engine: TtsEngine = getattr(importlib.import_module(module), name)(choice.name, choice.options)
    return engine
