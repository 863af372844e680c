"""One request: what its end means for the breaker, the quota and the metrics."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from shared.errors import EngineError
from shared.upstream.breaker import FAILURES
from shared.upstream.deadlines import Deadlines, Waits
from shared.upstream.faults import GIVEN_UP, HTTP_CODES, Code, CodeTable, Kind, UpstreamError
from shared.upstream.retry import with_one_retry
from shared.upstream.upstream import Limits, Upstream

pytestmark = pytest.mark.unit


def shown(name: str, upstream: Upstream, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"xz_upstream_{name}", {"upstream": upstream.name, **labels}) or 0.0


async def fail(upstream: Upstream, error: BaseException) -> None:
    with pytest.raises(type(error)):
        async with upstream.request("a"):
            raise error


async def refusal(upstream: Upstream) -> UpstreamError:
    with pytest.raises(UpstreamError) as failure:
        async with upstream.request("a"):
            raise AssertionError("it was asked")
    return failure.value


async def test_failures_in_a_row_open_it() -> None:
    """Then nobody waits for it: the fallback is next, without a retry."""
    upstream = Upstream("t-opens", Limits())
    for _ in range(FAILURES):
        await fail(upstream, CodeTable().error("E7", "it broke"))
    error = await refusal(upstream)
    assert (error.code, error.retryable) == (Code.OPEN, False)
    assert (upstream.is_open, shown("breaker_state", upstream)) == (True, 2)
    assert shown("errors_total", upstream, code=Code.FAILED, reason="other") == FAILURES
    assert shown("errors_total", upstream, code=Code.OPEN, reason="") == 1
    assert shown("requests_total", upstream) == FAILURES


@pytest.mark.parametrize(
    ("error", "is_open"),
    [
        (UpstreamError("no key", code=Code.AUTH, kind=Kind.FATAL), True),
        (UpstreamError("no such text", code=Code.INPUT, kind=Kind.INPUT), False),
        (UpstreamError("it broke", code=Code.FAILED), False),
        (EngineError("the model broke", code="llm_server"), False),
    ],
)
async def test_one_failure_opens_it_only_if_it_is_fatal(error: EngineError, is_open: bool) -> None:
    """Somebody must mend a wrong key; anything else may be chance."""
    upstream = Upstream(f"t-{error.code}", Limits())
    await fail(upstream, error)
    assert upstream.is_open is is_open
    assert shown("errors_total", upstream, code=error.code, reason="") == 1


async def test_an_error_without_a_kind_counts() -> None:
    """A language model's failures open the breaker too."""
    upstream = Upstream("t-plain", Limits())
    for _ in range(FAILURES):
        await fail(upstream, EngineError("the model broke", code="llm_server"))
    assert upstream.is_open


async def test_a_cancelled_request_is_neither_a_success_nor_a_failure() -> None:
    """Somebody who interrupts says nothing of the upstream, and gives the seat back."""
    upstream = Upstream("t-cancels", Limits(sessions=1))
    broken = UpstreamError("it broke", code=Code.FAILED)
    for _ in range(FAILURES - 1):
        await fail(upstream, broken)
    is_inside = asyncio.Event()

    async def ask() -> None:
        async with upstream.request("a"):
            is_inside.set()
            await asyncio.Event().wait()

    asking = asyncio.create_task(ask(), name="asks")
    await is_inside.wait()
    asking.cancel()
    await asyncio.wait([asking])
    assert (asking.cancelled(), upstream.is_open) == (True, False)
    assert (shown("cancels_total", upstream), shown("in_use", upstream)) == (1, 0)
    await fail(upstream, broken)
    assert upstream.is_open


async def test_a_bug_of_ours_frees_the_seat_and_blames_nobody() -> None:
    """An exception that is no EngineError is passed on; the next request finds the seat free."""
    upstream = Upstream("t-bug", Limits(sessions=1, queue_s=0.0))
    for _ in range(FAILURES + 1):
        await fail(upstream, ValueError("a bug"))
    async with upstream.request("a"):
        assert shown("in_use", upstream) == 1


async def test_no_seat_in_time_is_counted_and_not_blamed_on_the_upstream() -> None:
    """Our own crowd must not open the breaker."""
    upstream = Upstream("t-crowd", Limits(sessions=1, queue_s=0.0))
    async with upstream.request("a"):
        for _ in range(FAILURES + 1):
            assert (await refusal(upstream)).code == Code.BUSY
        assert not upstream.is_open
    assert shown("errors_total", upstream, code=Code.BUSY, reason="") == FAILURES + 1


async def test_who_waited_while_it_broke_is_not_let_in() -> None:
    """The breaker is asked again behind the queue; the seat goes on."""
    upstream = Upstream("t-late", Limits(sessions=1))
    waiting = []
    with pytest.raises(UpstreamError):
        async with upstream.request("a"):
            waiting = [asyncio.create_task(refusal(upstream), name=f"waits-{n}") for n in range(3)]
            await asyncio.sleep(0)
            raise UpstreamError("no key", code=Code.AUTH, kind=Kind.FATAL)
    assert [error.code for error in await asyncio.gather(*waiting)] == [Code.OPEN] * 3
    assert shown("in_use", upstream) == 0


async def test_the_first_byte_is_measured_once() -> None:
    """Later calls do nothing."""
    upstream = Upstream("t-first", Limits())
    async with upstream.request("a") as request:
        request.on_first_byte()
        request.on_first_byte()
    assert shown("first_byte_seconds_count", upstream) == 1


@pytest.mark.parametrize(
    ("wait", "code"),
    [("connecting", Code.CONNECT_TIMEOUT), ("first", Code.FIRST_TIMEOUT), ("next", Code.IDLE_TIMEOUT)],
)
async def test_each_wait_has_its_deadline_and_its_code(wait: str, code: str) -> None:
    """Whatever is waited for ends, and says which wait it was."""
    waits = Waits(Deadlines(connect_s=0.01, first_s=0.01, idle_s=0.01))
    with pytest.raises(UpstreamError) as failure:
        async with getattr(waits, wait)():
            await asyncio.Event().wait()
    assert (failure.value.code, failure.value.kind) == (code, Kind.RETRYABLE)


async def test_the_whole_is_bounded_too() -> None:
    """A slow drip that keeps each single deadline ends all the same."""
    waits = Waits(Deadlines(idle_s=60.0, total_s=0.01))
    with pytest.raises(UpstreamError) as failure:
        async with waits.next():
            await asyncio.Event().wait()
    assert failure.value.code == Code.TOTAL_TIMEOUT


async def test_a_timeout_of_somebody_else_passes_through() -> None:
    """A TimeoutError from within the block is not taken for the deadline's."""
    with pytest.raises(TimeoutError):
        async with Waits(Deadlines()).next():
            raise TimeoutError


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (401, Code.AUTH, Kind.FATAL, "401"),
        (302, Code.REFUSED, Kind.FATAL, "302"),
        (429, Code.QUOTA, Kind.QUOTA, "429"),
        (400, Code.INPUT, Kind.INPUT, "400"),
        (503, Code.FAILED, Kind.RETRYABLE, "503"),
        (599, Code.FAILED, Kind.RETRYABLE, "other"),
    ],
)
def test_http_answers_have_meanings(status: int, code: str, kind: Kind, reason: str) -> None:
    """The reason is a label, so that only listed codes are told apart."""
    error = HTTP_CODES.error(status, "it refused")
    assert (error.code, error.kind, error.reason) == (code, kind, reason)


class Attempts:
    """Fails as told, then succeeds."""

    def __init__(self, *errors: UpstreamError) -> None:
        self._errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def broken(code: str = Code.FAILED, kind: Kind = Kind.RETRYABLE) -> UpstreamError:
    return UpstreamError("it broke", code=code, kind=kind)


async def test_what_may_work_at_once_is_tried_once_more() -> None:
    """One retry, and it is counted."""
    attempts = Attempts(broken())
    assert await with_one_retry(attempts, upstream="t-retry") == "done"
    assert attempts.count == 2
    assert REGISTRY.get_sample_value("xz_upstream_retries_total", {"upstream": "t-retry"}) == 1
    attempts = Attempts(broken(), broken(Code.CLOSED), broken())
    with pytest.raises(UpstreamError) as failure:
        await with_one_retry(attempts)
    assert (failure.value.code, attempts.count) == (Code.CLOSED, 2)


@pytest.mark.parametrize("kind", [Kind.QUOTA, Kind.FATAL, Kind.INPUT])
async def test_what_will_not_work_at_once_is_not_tried_again(kind: Kind) -> None:
    """The fallback is next."""
    attempts = Attempts(broken(kind=kind))
    with pytest.raises(UpstreamError):
        await with_one_retry(attempts)
    assert attempts.count == 1


@pytest.mark.parametrize("answers", [[False], [True, False]])
async def test_what_was_heard_already_is_not_repeated(answers: list[bool]) -> None:
    """Asked before the pause and behind it."""
    attempts, left = Attempts(broken()), list(answers)
    with pytest.raises(UpstreamError):
        await with_one_retry(attempts, is_safe=lambda: left.pop(0))
    assert (attempts.count, left) == (1, [])


@pytest.mark.parametrize("code", [Code.OPEN, Code.BUSY])
async def test_a_retry_that_was_not_let_in_tells_the_first_failure(code: str) -> None:
    """It says what is wrong; that the breaker has opened follows from it."""
    with pytest.raises(UpstreamError) as failure:
        await with_one_retry(Attempts(broken(Code.MALFORMED), broken(code, Kind.QUOTA)))
    assert failure.value.code == Code.MALFORMED


async def test_a_silence_that_the_caller_does_not_sit_out_is_a_failure() -> None:
    """Callers are often less patient than the deadlines; a cancellation for any other reason says nothing."""
    upstream = Upstream("t-late", Limits())

    async def ask() -> None:
        async with upstream.request("a") as request, request.waits.first():
            await asyncio.sleep(3600)

    for message in (None, *[GIVEN_UP] * FAILURES):
        assert not upstream.is_open
        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        task.cancel(message)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert upstream.is_open
    assert shown("errors_total", upstream, code=Code.LATE, reason="") == FAILURES
    assert shown("cancels_total", upstream) == 1


async def test_what_the_caller_does_between_two_waits_is_not_the_upstreams_time() -> None:
    """Sound that is taken slowly makes nobody late; waits together do."""
    waits = Waits(Deadlines(idle_s=60, total_s=0.3))
    for _ in range(3):
        async with waits.next():
            await asyncio.sleep(0)
        await asyncio.sleep(0.15)
    with pytest.raises(UpstreamError) as failure:
        while True:
            async with waits.next():
                await asyncio.sleep(0.05)
    assert failure.value.code == Code.TOTAL_TIMEOUT
