"""What was noticed while a configuration was read: what stops the server, and what does not do what it seems to."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import ConfigError
from shared.log.redaction import shown_setting


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something in the configuration that does not do what its author may think."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


@dataclass(slots=True)
class Findings:
    """What was noticed while a document was read."""

    warnings: list[ConfigWarning] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)

    def warn(self, key: str, message: str) -> None:
        self.warnings.append(ConfigWarning(key, message))

    def refuse(self, key: str, value: object, expected: str) -> None:
        self.errors.append(ConfigError(key, shown_setting(key, value), expected))
