"""Which connections are kept, given out again, and closed."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from shared.upstream.faults import Code, UpstreamError
from shared.upstream.warm import WarmConnections

pytestmark = pytest.mark.unit

LONG_S = 60.0


class Line:
    """A connection that only knows whether it is open."""

    def __init__(self) -> None:
        self.is_open = True
        self.was_closed = asyncio.Event()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_open = False
        self.was_closed.set()


class Exchange:
    """Makes lines and remembers them."""

    def __init__(self, idle_s: float, name: str) -> None:
        self.lines: list[Line] = []
        self.name = name
        self.warm = WarmConnections(self.connect, idle_s=idle_s, name=name)

    async def connect(self) -> Line:
        self.lines.append(Line())
        return self.lines[-1]

    def shown(self, name: str) -> float:
        return REGISTRY.get_sample_value(f"xz_upstream_{name}", {"upstream": self.name}) or 0.0


async def test_a_clean_request_leaves_its_connection_to_the_next() -> None:
    """Nobody else gets it meanwhile."""
    exchange = Exchange(LONG_S, "t-reuse")
    async with exchange.warm.borrowed() as first, exchange.warm.borrowed() as second:
        assert first is not second
    async with exchange.warm.borrowed() as third:
        assert third in (first, second)
    assert (exchange.shown("connects_total"), exchange.shown("reuses_total")) == (2, 1)
    assert exchange.shown("connections_kept") == 2
    await exchange.warm.close()
    assert not any(line.is_open for line in exchange.lines)
    assert exchange.shown("connections_kept") == 0


async def test_without_an_idle_time_nothing_is_kept() -> None:
    """Closed before the block is left."""
    exchange = Exchange(0.0, "t-cold")
    async with exchange.warm.borrowed() as line:
        pass
    assert not line.is_open


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError(), GeneratorExit()])
async def test_whoever_leaves_in_the_middle_closes_it(error: BaseException) -> None:
    """What the other side still sends must not reach the next request."""
    exchange = Exchange(LONG_S, "t-middle")
    with pytest.raises(type(error)):
        async with exchange.warm.borrowed():
            raise error
    async with exchange.warm.borrowed() as line:
        assert line is exchange.lines[1]
    assert not exchange.lines[0].is_open
    await exchange.warm.close()


async def test_a_confirmed_end_keeps_it_once() -> None:
    """The upstream said that nothing more comes; the next failure closes it as ever."""
    exchange = Exchange(LONG_S, "t-confirmed")
    for is_confirmed in (True, False):
        with pytest.raises(ValueError, match="x"):
            async with exchange.warm.borrowed() as line:
                if is_confirmed:
                    exchange.warm.keep(line)
                raise ValueError("x")
        assert exchange.lines == [line]
        assert line.is_open is is_confirmed


async def test_an_idle_one_is_closed_by_itself() -> None:
    """No request has to come for that."""
    exchange = Exchange(0.01, "t-idle")
    async with exchange.warm.borrowed() as line:
        pass
    await asyncio.wait_for(line.was_closed.wait(), 10.0)
    assert exchange.shown("connections_kept") == 0


async def test_one_that_the_other_side_closed_is_not_given_out() -> None:
    """A new one is made, and that is counted."""
    exchange = Exchange(LONG_S, "t-gone")
    async with exchange.warm.borrowed():
        pass
    exchange.lines[0].is_open = False
    async with exchange.warm.borrowed() as line:
        assert line is exchange.lines[1]
    assert exchange.shown("reconnects_total") == 1
    await exchange.warm.close()


async def with_two_kept(exchange: Exchange) -> None:
    async with exchange.warm.borrowed(), exchange.warm.borrowed():
        pass


@pytest.mark.parametrize("code", [Code.CLOSED, Code.FIRST_TIMEOUT, Code.IDLE_TIMEOUT])
async def test_a_kept_one_that_proves_dead_takes_the_others_with_it(code: str) -> None:
    """A retry meets a new connection, not the next dead one; that it still looks open says nothing."""
    exchange = Exchange(LONG_S, "t-broken")
    await with_two_kept(exchange)
    with pytest.raises(UpstreamError):
        async with exchange.warm.borrowed():
            raise UpstreamError("nothing came", code=code)
    async with exchange.warm.borrowed() as fresh:
        assert fresh is exchange.lines[2]
    await exchange.warm.close()
    assert not any(line.is_open for line in exchange.lines)


@pytest.mark.parametrize("error", [UpstreamError("no", code=Code.FAILED), asyncio.CancelledError()])
async def test_a_failure_of_one_request_leaves_the_others_alone(error: BaseException) -> None:
    """What the upstream says, and that nobody wants it any more, says nothing of other connections."""
    exchange = Exchange(LONG_S, "t-alone")
    await with_two_kept(exchange)
    with pytest.raises(type(error)):
        async with exchange.warm.borrowed():
            raise error
    assert sum(line.is_open for line in exchange.lines) == 1
    await exchange.warm.close()


async def test_what_comes_back_after_the_end_is_closed() -> None:
    """Nothing is left open by a process that goes."""
    exchange = Exchange(LONG_S, "t-end")
    async with exchange.warm.borrowed() as line:
        await exchange.warm.close()
        assert line.is_open
    assert not line.is_open
