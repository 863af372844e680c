"""Which engine types there are, and the engines of the configured sections."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.errors import ConfigError
from shared.settings import AsrSettings, EngineChoice
from workers.asr.engines.engine import Engine
from workers.asr.engines.pocketsphinx import PocketSphinxEngine
from workers.asr.engines.scripted import ScriptedEngine

log = structlog.get_logger(__name__)

ENGINE_TYPES: dict[str, Callable[[EngineChoice], Engine]] = {
    "pocketsphinx": PocketSphinxEngine,
    "scripted": ScriptedEngine,
}


def make_engine(choice: EngineChoice) -> Engine:
    """Raises ConfigError for an unknown type or unusable options."""
    factory = ENGINE_TYPES.get(choice.type)
    if factory is None:
        raise ConfigError(f"ASR.{choice.name}.type", choice.type, "one of " + ", ".join(sorted(ENGINE_TYPES)))
    return factory(choice)


def make_engines(settings: AsrSettings) -> dict[str, Engine]:
    """By section name. The default must be usable; another section that is not is left out with a warning."""
    engines = {settings.engine.name: make_engine(settings.engine)}
    for name, choice in settings.engines.items():
        if name in engines:
            continue
        try:
            engines[name] = make_engine(choice)
        except ConfigError as error:
            log.warning("asr_engine_left_out", key=error.key, expected=error.expected)
    return engines
