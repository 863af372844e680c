"""Which engine types there are, and the engines of the configured sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


SEATS = "recognisers"
"""The option of any section that gives its engine a number of seats of its own."""

LIGHT_SEATS = 64
"""Of an engine that computes elsewhere, if its section says nothing."""

MAX_SEATS = 1024


def make_engine(choice: EngineChoice) -> Engine:
    """Raises ConfigError for an unknown type or unusable options."""
    factory = ENGINE_TYPES.get(choice.type)
    if factory is None:
        raise ConfigError(f"ASR.{choice.name}.type", choice.type, "one of " + ", ".join(sorted(ENGINE_TYPES)))
    _seats_of(choice)
    options = {name: value for name, value in choice.options.items() if name != SEATS}
    return factory(choice.model_copy(update={"options": options}))


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
