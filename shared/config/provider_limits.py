"""One process's part of what a provider allows to all of them together. Pure.

`max_sessions` of a section is the account's limit, and the workers of a pool do not know of each other: each takes an
equal part, rounded down, at least one. A section that cannot be used is left as it is; its engine says what is wrong.
"""

from __future__ import annotations

from typing import Final, TypeVar

from shared.config.options.table import OPTIONS
from shared.errors import InvalidConfigError
from shared.settings import AsrSettings, EngineChoice, TtsSettings
from shared.upstream.seats import share_of

S = TypeVar("S", AsrSettings, TtsSettings)

KEY: Final = "max_sessions"


def for_one_of(settings: S, processes: int) -> S:
    """The pool's settings as one of so many processes takes them."""
    kind = "ASR" if isinstance(settings, AsrSettings) else "TTS"
    engines = {name: _part(kind, choice, processes) for name, choice in settings.engines.items()}
    return settings.model_copy(update={"engine": _part(kind, settings.engine, processes), "engines": engines})


def _part(kind: str, choice: EngineChoice, processes: int) -> EngineChoice:
    model = OPTIONS.get((kind, choice.type))
    if model is None or KEY not in model.model_fields:
        return choice
    try:
        total: int = getattr(model.of(choice), KEY)
    except InvalidConfigError:
        return choice
    return choice.model_copy(update={"options": {**choice.options, KEY: share_of(total, processes)}})
