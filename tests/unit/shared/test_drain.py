"""How long a process may drain."""

from __future__ import annotations

import pytest

from shared.errors import ConfigError
from shared.process.drain import drain_deadline_s

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("value", "seconds"), [(None, 20.0), ("", 20.0), ("8", 8.0), ("0", 0.0), ("1.5", 1.5)])
def test_the_variable_wins_over_the_programs_own_limit(value: str | None, seconds: float) -> None:
    """Whoever starts the cluster says how long Ctrl-C may take."""
    environ = {} if value is None else {"XZ_DRAIN_S": value}
    assert drain_deadline_s(20.0, environ) == seconds


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e9"])
def test_what_is_no_number_of_seconds_is_refused(value: str) -> None:
    """By name and value."""
    with pytest.raises(ConfigError, match="XZ_DRAIN_S"):
        drain_deadline_s(20.0, {"XZ_DRAIN_S": value})
