"""The configuration, libopus and the models, from the checks that `xiaozhi up` makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ops.doctor.finding import Finding, fail, ok, warn
from shared.config.findings import ConfigWarning
from shared.config.preflight import Problem
from shared.errors import ConfigError, InvalidConfigError

CONFIG = "configuration"


def judge_config(error: ConfigError | None, warnings: Iterable[ConfigWarning]) -> Iterator[Finding]:
    """Every wrong key with its value and what was expected; what is only ignored is a warning."""
    if error is not None:
        for each in error.errors if isinstance(error, InvalidConfigError) else (error,):
            yield fail(CONFIG, f"{each.key}: got {each.value!r}", f"expected {each.expected}")
        return
    found = [warn(CONFIG, str(warning), "see docs/configuration.md") for warning in warnings]
    yield from found or [ok(CONFIG, "every key is known and usable")]


def judge_problems(check: str, problems: Iterable[Problem], well: str) -> Iterator[Finding]:
    found = [fail(check, f"{problem.what}: {problem.why}", problem.remedy) for problem in problems]
    yield from found or [ok(check, well)]
