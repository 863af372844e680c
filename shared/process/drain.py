"""How long a process may drain: its program's own limit, unless the one who started the cluster says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prometheus_client import Histogram

from shared.errors import ConfigError

DRAIN_SECONDS = Histogram(
    "xz_drain_seconds",
    "From the signal to the end of the last thing that was under way",
    buckets=(0.1, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)

VARIABLE = "XZ_DRAIN_S"

HURRY_S = 1.0
"""What a second SIGTERM shortens it to."""


def drain_deadline_s(default_s: float, environ: Mapping[str, str] = os.environ) -> float:
    """Raises ConfigError if the variable is no number of seconds."""
    value = environ.get(VARIABLE)
    if not value:
        return default_s
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < 86_400.0:
        raise ConfigError(VARIABLE, value, "a number of seconds")
    return seconds
