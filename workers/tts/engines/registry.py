"""Engine types by the name they have in configuration, and their construction from a configured section."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from shared.config.local_tts import need_library
from shared.errors import ConfigError
from shared.settings import EngineChoice
from workers.tts.engine import AnyEngine

_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "embedded": "workers.tts.engines.embedded:EmbeddedEngine",
        "hibari": "workers.tts.engines.hibari:HibariEngine",
        "espeak": "workers.tts.engines.espeak:EspeakEngine",
        "piper": "workers.tts.engines.piper:PiperEngine",
        "sherpa": "workers.tts.engines.sherpa_tts:SherpaTtsEngine",
        "sine": "workers.tts.engines.sine:SineEngine",
        "aliyun_stream": "workers.tts.engines.aliyun_stream:AliyunStreamEngine",
        "huoshan_double_stream": "workers.tts.engines.huoshan_double_stream:HuoshanDoubleStreamEngine",
        "edge": "workers.tts.engines.edge:EdgeEngine",
        "openai": "workers.tts.engines.openai_tts:OpenAiEngine",
    }
)
TYPES = tuple(_CLASSES)


def build(choice: EngineChoice) -> AnyEngine:
    """The engine of a section, neither loaded nor started; what it needs is imported only now. Raises ConfigError."""
    if choice.type not in _CLASSES:
        raise ConfigError(f"TTS.{choice.name}.type", choice.type, "one of " + ", ".join(TYPES))
    need_library(choice)
    module, _, name = _CLASSES[choice.type].partition(":")
    engine: AnyEngine = getattr(importlib.import_module(module), name)(choice.name, choice.options)
    return engine
