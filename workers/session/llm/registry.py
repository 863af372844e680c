"""Builds the configured model."""

from __future__ import annotations

from shared.errors import ConfigError
from shared.settings import EngineChoice
from workers.session.llm.endpoints import TYPES, endpoint_of
from workers.session.llm.model import ChatModel
from workers.session.llm.scripted import ScriptedModel


def resolves_names(choice: EngineChoice | None) -> bool:
    """Does this model's server have a name? Resolving it costs libuv's four threads."""
    return choice is not None and choice.type in TYPES and endpoint_of(choice).is_named


def build_model(choice: EngineChoice) -> ChatModel:
    """Raises ConfigError for a type or an option that cannot be used."""
    if choice.type == "scripted":
        return ScriptedModel(choice)
    if choice.type not in TYPES:
        raise ConfigError(f"LLM.{choice.name}.type", choice.type, f"one of {', '.join(sorted(TYPES))} or scripted")
    # Importing it takes a second and 40 MB, which a worker without a model need not spend.
    from workers.session.llm.compatible import CompatibleModel  # noqa: PLC0415

    return CompatibleModel(endpoint_of(choice))
