"""What a check says: one line, and where something is wrong, how to mend it. Pure.

No finding holds a secret: of a URL only scheme, host and port are told, of a setting what the configuration's own
errors tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It runs, but not as well or as safely as it could."""
    FAIL = "fail"
    """It does not run, or no device will find it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is right or wrong."""

    check: str
    level: Level
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, Level.OK, what)


def warn(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, Level.WARN, what, remedy)


def fail(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, Level.FAIL, what, remedy)


def has_failed(findings: Iterable[Finding]) -> bool:
    return any(finding.level is Level.FAIL for finding in findings)
