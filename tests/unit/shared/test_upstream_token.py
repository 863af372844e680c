"""One fetch for everybody, renewals before the end, and failures that keep the old token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from shared.upstream import token as token_module
from shared.upstream.backoff import Backoff
from shared.upstream.faults import Code, UpstreamError
from shared.upstream.token import RenewedToken, Token

pytestmark = pytest.mark.unit


def standing_still() -> float:
    """A wall clock by which no token expires, while the loop's timers go on."""
    return 1_000_000.0


class Office:
    """Issues tokens t1, t2 …, when it is let."""

    def __init__(self, *, life_s: float = 3600.0, clock: Callable[[], float] = time.time) -> None:
        self.life_s = life_s
        self.clock = clock
        self.count = 0
        self.is_broken = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Condition()

    async def issue(self) -> Token:
        self.count += 1
        number = self.count
        async with self.asked:
            self.asked.notify_all()
        await self.may_answer.wait()
        if self.is_broken:
            raise UpstreamError("no token", code=Code.AUTH)
        return Token(f"t{number}", self.clock() + self.life_s)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0), self.asked:
            await self.asked.wait_for(is_so)


async def test_one_fetch_serves_everybody() -> None:
    """Those who come meanwhile wait for it, those who come later have it at once."""
    office = Office()
    token = RenewedToken(office.issue)
    assert await asyncio.gather(*(token.value() for _ in range(20))) == ["t1"] * 20
    assert (await token.value(), office.count) == ("t1", 1)
    await token.close()


async def test_the_first_who_asks_may_leave() -> None:
    """The fetch is not theirs: the others get their token from it."""
    office = Office()
    office.may_answer.clear()
    token = RenewedToken(office.issue)
    first, second = (asyncio.create_task(token.value(), name=f"asks-{n}") for n in range(2))
    await office.until(lambda: office.count == 1)
    first.cancel()
    await asyncio.wait([first])
    office.may_answer.set()
    assert (await second, office.count, first.cancelled()) == ("t1", 1, True)
    await token.close()


async def test_it_is_renewed_before_it_expires() -> None:
    """Nobody has to ask for it, and nobody waits: until the new one is here the old one serves."""
    office = Office(life_s=0.02, clock=standing_still)
    token = RenewedToken(office.issue, clock=standing_still)
    assert await token.value() == "t1"
    office.may_answer.clear()
    await office.until(lambda: office.count == 2)
    assert await token.value() == "t1"
    office.life_s = 3600.0
    office.may_answer.set()
    await asyncio.wait([task for task in asyncio.all_tasks() if task.get_name().startswith("upstream-token")])
    assert (await token.value(), office.count) == ("t2", 2)
    await token.close()


async def test_a_failure_reaches_all_who_wait_and_the_next_fetches_again() -> None:
    """A failure is no token: it is not remembered."""
    office = Office()
    office.is_broken = True
    token = RenewedToken(office.issue)
    errors = await asyncio.gather(*(token.value() for _ in range(3)), return_exceptions=True)
    assert [getattr(error, "code", None) for error in errors] == [Code.AUTH] * 3
    office.is_broken = False
    assert (await token.value(), office.count) == ("t2", 2)
    await token.close()


async def test_a_failed_renewal_keeps_the_old_token_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is valid nobody notices."""
    monkeypatch.setattr(token_module, "PAUSES", Backoff(first_s=0.01, most_s=0.01))
    office = Office(life_s=0.02, clock=standing_still)
    token = RenewedToken(office.issue, clock=standing_still)
    assert await token.value() == "t1"
    office.is_broken = True
    await office.until(lambda: office.count >= 4)
    assert await token.value() == "t1"
    await token.close()


async def test_a_refused_token_is_not_used_again() -> None:
    """The upstream knows better; a token that was renewed meanwhile stays."""
    office = Office()
    token = RenewedToken(office.issue)
    assert await token.value() == "t1"
    token.reject("t1")
    assert await token.value() == "t2"
    token.reject("t1")
    assert await token.value() == "t2"
    await token.close()


async def test_a_token_that_comes_expired_serves_once() -> None:
    """A clock that is wrong must not keep everybody from speaking."""
    office = Office(life_s=-10.0)
    token = RenewedToken(office.issue)
    assert [await token.value(), await token.value()] == ["t1", "t2"]
    await token.close()


async def test_a_fetch_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nobody could ever fetch again."""
    monkeypatch.setattr(token_module, "FETCH_S", 0.01)
    office = Office()
    office.may_answer.clear()
    token = RenewedToken(office.issue)
    with pytest.raises(UpstreamError) as failure:
        await token.value()
    assert failure.value.code == Code.TOTAL_TIMEOUT
    office.may_answer.set()
    monkeypatch.setattr(token_module, "FETCH_S", 30.0)
    assert await token.value() == "t2"
    await token.close()


async def test_closing_ends_the_fetch_and_tells_who_waits() -> None:
    """Nothing runs on, and nobody waits for ever."""
    office = Office()
    office.may_answer.clear()
    token = RenewedToken(office.issue)
    waiting = asyncio.create_task(token.value(), name="waits")
    await office.until(lambda: office.count == 1)
    await token.close()
    for asked in (waiting, token.value()):
        with pytest.raises(UpstreamError) as failure:
            await asked
        assert failure.value.code == Code.CLOSED
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("upstream-token")] == []


def test_a_token_does_not_show_its_value() -> None:
    """It would end in a log."""
    assert "secret" not in repr(Token("secret", 0.0))
