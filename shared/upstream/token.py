"""A token that is fetched before it is needed and renewed before it expires, once for everybody who waits.

Rules
- One fetch at a time. It belongs to the token, not to whoever asked first: a person who interrupts does not take the
  token away from the others who wait for it.
- It is renewed `margin_s` before it expires, or in the middle of its life if that is shorter. A failed renewal is tried
  again after a growing pause and keeps the old token until it expires; after that the next who asks fetches.
- A token that comes already expired (a clock that is wrong) serves those who waited for it and is not kept.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from shared.upstream import metrics
from shared.upstream.backoff import Backoff
from shared.upstream.faults import Code, UpstreamError

FETCH_S: Final = 10.0
PAUSES: Final = Backoff(first_s=2.0, most_s=60.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)
    expires_at: float
    """Wall clock, Unix seconds."""


class RenewedToken:
    """`fetch` raises UpstreamError; a failed renewal keeps the old token until it expires."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token]],
        *,
        margin_s: float = 60.0,
        name: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`name` is the upstream's, for log and metrics. `clock` is the wall's. A fetch may take FETCH_S."""
        self._fetch = fetch
        self._clock = clock
        self._margin_s = margin_s
        self._name = name
        self._token: Token | None = None
        self._fetching: asyncio.Task[Token] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._is_closed = False

    async def value(self) -> str:
        """The valid token; waits only if there is none. Raises UpstreamError."""
        token = self._token
        if token is None or token.expires_at <= self._clock():
            token = await self._fetched()
        return token.value

    def reject(self, value: str) -> None:
        """The upstream did not take this token: the next who asks gets a new one."""
        if self._token is not None and self._token.value == value:
            self._token = None

    async def close(self) -> None:
        """Ends the fetch and the renewals; who waits gets `upstream_closed`."""
        self._is_closed = True
        self._stop_timer()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetched(self) -> Token:
        fetching = self._started()
        try:
            return await asyncio.shield(fetching)
        except asyncio.CancelledError:
            if fetching.cancelled():
                raise UpstreamError("the token was closed", code=Code.CLOSED) from None
            raise

    def _started(self) -> asyncio.Task[Token]:
        if self._is_closed:
            raise UpstreamError("the token was closed", code=Code.CLOSED)
        if self._fetching is None:
            self._stop_timer()
            self._fetching = asyncio.get_running_loop().create_task(self._one(), name=f"upstream-token-{self._name}")
            self._fetching.add_done_callback(self._on_fetched)
        return self._fetching

    async def _one(self) -> Token:
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._fetch()
        except TimeoutError:
            raise UpstreamError("no token came in time", code=Code.TOTAL_TIMEOUT) from None

    def _on_fetched(self, fetching: asyncio.Task[Token]) -> None:
        self._fetching = None
        if fetching.cancelled():
            return
        error = fetching.exception()
        if error is None:
            self._on_token(fetching.result())
        else:
            self._on_failure(error)

    def _on_token(self, token: Token) -> None:
        metrics.TOKENS.labels(self._name, "fetched").inc()
        self._failures = 0
        self._token = token
        left_s = token.expires_at - self._clock()
        if left_s > 0:
            self._renew_in(max(left_s - self._margin_s, left_s / 2.0))

    def _on_failure(self, error: BaseException) -> None:
        self._failures += 1
        code = error.code if isinstance(error, UpstreamError) else type(error).__name__
        metrics.TOKENS.labels(self._name, "failed").inc()
        log.warning("upstream_token_failed", upstream=self._name, code=code, failures=self._failures)
        if self._token is not None and self._token.expires_at > self._clock():
            self._renew_in(PAUSES.rest_s(self._failures, random.random()))

    def _renew_in(self, pause_s: float) -> None:
        if not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._started)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
