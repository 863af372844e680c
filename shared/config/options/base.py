"""What an engine's section may hold, and how a wrong key is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError, InvalidConfigError
from shared.log.redaction import shown_setting
from shared.settings import EngineChoice

Deadline = Annotated[float, Field(gt=0, le=60, description="seconds over 0 and up to 60")]
"""How long one step of a request may take, or be waited for."""


def is_placeholder(value: object) -> bool:
    """Whether a value is an example that was never filled in, such as `你的api_key`."""
    return isinstance(value, str) and ("你" in value or value.strip().lower().startswith(("your_", "your-")))


class Options(BaseModel):
    """Base of every type's model: frozen; a key it does not know is ignored, as today's files have many.

    A field without a default is a key that must be given; its description is what was expected, in an operator's words.
    An example value that was never filled in counts as not given; so does an empty text.
    """

    model_config = ConfigDict(
        extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True, coerce_numbers_to_str=True
    )

    kind: ClassVar[str]
    """ASR or TTS."""
    is_outside: ClassVar[bool] = True
    """Whether the engine asks a service; False = it computes on this machine."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The URLs it will ask, for `xiaozhi doctor`; without secrets."""
        return ()

    @classmethod
    def of(cls, choice: EngineChoice) -> Self:
        """Raises InvalidConfigError that names every wrong key, its value (secrets hidden) and what was expected."""
        given = {k: v for k, v in choice.options.items() if v not in (None, "") and not is_placeholder(v)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidConfigError(list(cls._faults(choice, error))) from None

    @classmethod
    def _faults(cls, choice: EngineChoice, error: ValidationError) -> Iterator[ConfigError]:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"])
            field = cls.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
            key = f"{cls.kind}.{choice.name}.{name}" if name else f"{cls.kind}.{choice.name}"
            expected = (field.description if field else None) or problem["msg"]
            value = _dig(choice.options, problem["loc"])
            yield ConfigError(key, shown_setting(key, value), expected)


def _dig(options: Mapping[str, Any], path: tuple[int | str, ...]) -> object:
    value: Any = options
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
