"""What can go wrong with an upstream, and what follows from it. Pure.

Every failure becomes an UpstreamError with one of the codes below, whatever the provider calls it. Its message never
holds what the provider said, which may repeat keys or speech.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from shared.errors import EngineError


class Kind(Enum):
    """What follows from a failure."""

    RETRYABLE = "retryable"
    """It may well work at once: one safe retry, then the fallback. Counts for the breaker."""
    QUOTA = "quota"
    """The provider has had enough of us: no retry, the fallback. Counts for the breaker."""
    FATAL = "fatal"
    """It will not work until somebody mends it (key, address, model): no retry, the fallback. Opens the breaker."""
    INPUT = "input"
    """This text or sound is at fault, not the upstream: no retry. The breaker does not count it."""


class Code:
    """The machine codes of an UpstreamError; metrics and link messages carry them."""

    CONNECT = "upstream_connect"
    CONNECT_TIMEOUT = "upstream_connect_timeout"
    FIRST_TIMEOUT = "upstream_first_timeout"
    IDLE_TIMEOUT = "upstream_idle_timeout"
    TOTAL_TIMEOUT = "upstream_total_timeout"
    CLOSED = "upstream_closed"
    MALFORMED = "upstream_malformed"
    NO_RESULT = "upstream_no_result"
    """It said that it had finished and gave nothing where something was due."""
    FAILED = "upstream_failed"
    QUOTA = "upstream_quota"
    AUTH = "upstream_auth"
    REFUSED = "upstream_refused"
    INPUT = "upstream_input"
    OPEN = "upstream_open"
    """Not asked: the breaker is open."""
    LATE = "upstream_late"
    """Whoever asked gave up before a deadline of the request was over (`GIVEN_UP`)."""
    BUSY = "upstream_busy"
    """Not asked: no seat within the quota came free in time."""


class UpstreamError(EngineError):
    """An upstream failed; `kind` says what follows, `reason` is the provider's own code if its table lists it."""

    def __init__(self, message: str, *, code: str, kind: Kind = Kind.RETRYABLE, reason: str = "") -> None:
        super().__init__(message, code=code, retryable=kind is Kind.RETRYABLE)
        self.kind = kind
        self.reason = reason


GIVEN_UP: Final = "given_up"
"""`task.cancel(GIVEN_UP)`: the request is cancelled because nothing came of it for too long, not because nobody wants
it any more. That is the upstream's failure: else its breaker would never hear of a silence that nobody sits out."""


@dataclass(frozen=True, slots=True)
class CodeTable:
    """A provider's error codes: which are known, and what each means. An unlisted one is retryable."""

    meanings: Mapping[str, tuple[str, Kind]] = field(default_factory=lambda: MappingProxyType({}))
    """The provider's code → one of Code and its kind."""

    def error(self, reason: object, what: str) -> UpstreamError:
        """The error for a provider's code; `what` says in our own words what failed."""
        name = str(reason)
        code, kind = self.meanings.get(name, (Code.FAILED, Kind.RETRYABLE))
        return UpstreamError(what, code=code, kind=kind, reason=name if name in self.meanings else "other")


HTTP_CODES = CodeTable(
    MappingProxyType(
        {
            "301": (Code.REFUSED, Kind.FATAL),
            "302": (Code.REFUSED, Kind.FATAL),
            "303": (Code.REFUSED, Kind.FATAL),
            "307": (Code.REFUSED, Kind.FATAL),
            "308": (Code.REFUSED, Kind.FATAL),
            "400": (Code.INPUT, Kind.INPUT),
            "401": (Code.AUTH, Kind.FATAL),
            "403": (Code.AUTH, Kind.FATAL),
            "404": (Code.REFUSED, Kind.FATAL),
            "408": (Code.FAILED, Kind.RETRYABLE),
            "413": (Code.INPUT, Kind.INPUT),
            "422": (Code.INPUT, Kind.INPUT),
            "429": (Code.QUOTA, Kind.QUOTA),
            "500": (Code.FAILED, Kind.RETRYABLE),
            "502": (Code.FAILED, Kind.RETRYABLE),
            "503": (Code.FAILED, Kind.RETRYABLE),
            "504": (Code.FAILED, Kind.RETRYABLE),
        }
    )
)
"""Of any HTTP answer, a refused WebSocket upgrade included. No redirect is followed: it would carry keys elsewhere."""
