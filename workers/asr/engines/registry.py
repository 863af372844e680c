"""Which engine types there are, and the engines of the configured sections."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import structlog

from shared.errors import ConfigError
from shared.settings import AsrSettings, EngineChoice
from workers.asr.engines.aliyun_stream import AliyunStreamEngine
from workers.asr.engines.doubao_stream import DoubaoStreamEngine
from workers.asr.engines.engine import Engine
from workers.asr.engines.fun_server import FunServerEngine
from workers.asr.engines.models import Models
from workers.asr.engines.openai_asr import OpenAiAsrEngine
from workers.asr.engines.pocketsphinx import PocketSphinxEngine
from workers.asr.engines.scripted import ScriptedEngine
from workers.asr.engines.sherpa import SherpaEngine
from workers.asr.engines.whisper import WhisperEngine

log = structlog.get_logger(__name__)

ENGINE_TYPES: dict[str, Callable[[EngineChoice], Engine]] = {
    "aliyun_stream": AliyunStreamEngine,
    "doubao_stream": DoubaoStreamEngine,
    "fun_server": FunServerEngine,
    "openai": OpenAiAsrEngine,
    "pocketsphinx": PocketSphinxEngine,
    "scripted": ScriptedEngine,
}

MODEL_ENGINE_TYPES: dict[str, Callable[[EngineChoice, Models], Engine]] = {
    "fun_local": SherpaEngine,
    "sherpa": SherpaEngine,
    "sherpa_onnx_local": SherpaEngine,
    "whisper": WhisperEngine,
}
"""Those that share the worker's loaded models."""


SEATS = "recognisers"
"""The option of any section that gives its engine a number of seats of its own."""

LIGHT_SEATS = 64
"""Of an engine that computes elsewhere, if its section says nothing."""

MAX_SEATS = 1024


def make_engine(choice: EngineChoice, models: Models | None = None) -> Engine:
    """Raises ConfigError for an unknown type or unusable options. `models` are the worker's; None = none are shared."""
    factory, shared_factory = ENGINE_TYPES.get(choice.type), MODEL_ENGINE_TYPES.get(choice.type)
    if factory is None and shared_factory is None:
        known = ", ".join(sorted({*ENGINE_TYPES, *MODEL_ENGINE_TYPES}))
        raise ConfigError(f"ASR.{choice.name}.type", choice.type, f"one of {known}")
    _seats_of(choice)
    options = {name: value for name, value in choice.options.items() if name != SEATS}
    own = choice.model_copy(update={"options": options})
    if shared_factory is not None:
        return shared_factory(own, models or Models())
    assert factory is not None
    return factory(own)


def make_engines(settings: AsrSettings, models: Models | None = None) -> dict[str, Engine]:
    """By section name. The default must be usable; another section that is not is left out with a warning.

    Sections that differ in nothing but their name have one engine.
    """
    models = models or Models(settings.max_models)
    default = make_engine(settings.engine, models)
    engines, made = {settings.engine.name: default}, {_sense_of(settings.engine): default}
    for name, choice in settings.engines.items():
        if name in engines:
            continue
        try:
            engine = made.get(_sense_of(choice)) or make_engine(choice, models)
        except ConfigError as error:
            log.warning("asr_engine_left_out", key=error.key, expected=error.expected)
        else:
            engines[name] = made[_sense_of(choice)] = engine
    return engines


def _sense_of(choice: EngineChoice) -> str:
    """What a section says, whatever it is called."""
    return json.dumps([choice.type, choice.options], sort_keys=True, default=repr)


def own_seats(settings: AsrSettings, engines: Mapping[str, Engine]) -> dict[str, int]:
    """How many of an engine's recognisers may be at work, for those that do not share the worker's number."""
    choices = {**settings.engines, settings.engine.name: settings.engine}
    seats: dict[str, int] = {}
    for name, engine in engines.items():
        own = _seats_of(choices[name])
        if own is not None or not engine.is_heavy:
            seats[name] = own or LIGHT_SEATS
    return seats


def _seats_of(choice: EngineChoice) -> int | None:
    own = choice.options.get(SEATS)
    if own is None:
        return None
    if isinstance(own, bool) or not isinstance(own, int) or not 1 <= own <= MAX_SEATS:
        raise ConfigError(f"ASR.{choice.name}.{SEATS}", own, f"a whole number from 1 to {MAX_SEATS}")
    return own
