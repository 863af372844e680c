"""What every voice that is asked of a service must do, checked with the real client against each service's fake."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from bench.upstreams.fake import Fake
from bench.upstreams.script import Fault, Script
from bench.upstreams.voice import spoken
from shared.upstream.faults import Code, Kind
from shared.upstream.tls import trust
from tests.fakes.remote_voice import asked, begun, failure, mark, remote, said, until, word
from tests.fakes.voice_services import (
    ALIYUN,
    CUTTING,
    EDGE,
    HUOSHAN,
    KEEPING,
    LONG,
    OPENAI,
    PIPED,
    SERVICES,
    VoiceService,
    faulty,
)

pytestmark = pytest.mark.contract


def of(*services: VoiceService) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", services, ids=[service.name for service in services])


def _variants(*services: VoiceService) -> Iterator[tuple[str, VoiceService, dict[str, Any]]]:
    """Name, service and options; one may be sent the text without waiting for its start, or not."""
    for service in services:
        if service is ALIYUN:
            yield "aliyun-pipelined", service, {"pipelined": True}
        yield service.name, service, {}


BEFORE_ANY_SOUND = [
    pytest.param(service, options, *rest, id=f"{name}-{rest[0]}")
    for name, service, options in _variants(*SERVICES)
    for rest in service.before_any_sound
]
PASSING = [
    pytest.param(service, fault, id=f"{service.name}-{fault}") for service in SERVICES for fault in service.passing()
]
LATER = [
    pytest.param(service, fault, code, id=f"{service.name}-{fault}")
    for service in SERVICES
    for fault, code in service.later
]
VARIANTS = [pytest.param(service, options, id=name) for name, service, options in _variants(ALIYUN, HUOSHAN, EDGE)]


@of(*KEEPING)
async def test_a_devices_voice_overrules_the_sections(service: VoiceService) -> None:
    """Only if it has one."""
    async with service.place() as (fake, engine):
        await said(engine, asked("Hello.", voice="another"))
        await said(engine, "Hello.")
        assert [session.started[service.voice_key] for session in fake.sessions] == ["another", service.voice]


@of(*SERVICES)
@pytest.mark.parametrize("text", ["a", "好", "今天是 Monday，明天是 Tuesday。"])
async def test_short_and_mixed_texts_are_told_whole(service: VoiceService, text: str) -> None:
    """Chinese is not touched on its way."""
    async with service.place() as (fake, engine):
        assert service.is_whole(await said(engine, text), text)
        assert fake.sessions[0].texts == [text]


@of(*PIPED)
async def test_five_thousand_characters_are_one_session(service: VoiceService) -> None:
    """Told in pieces, heard whole."""
    text = ("今天天气很好 and the robot sings. " * 250)[:5000]
    async with service.place(sample_rate=8000) as (fake, engine):
        sound = await said(engine, text)
        [session] = fake.sessions
        assert len(session.texts) > 1
        assert "".join(session.texts) == text
        assert sound == b"".join(spoken(piece, 8000) for piece in session.texts)


@of(*CUTTING)
async def test_five_thousand_characters_are_asked_for_in_parts(service: VoiceService) -> None:
    """None longer than the service takes, each a request, and nothing is lost."""
    text = ("今天天气很好，我们去公园走走吧。" * 320)[:5000]
    async with service.place() as (fake, engine):
        sound = await said(engine, text)
        texts = [session.texts[0] for session in fake.sessions]
        assert "".join(texts) == text
        assert len(texts) > 1
        assert service.is_whole(sound, *texts)
        assert max(len(part.encode()) for part in texts) <= service.part_bytes


@of(*CUTTING)
async def test_the_first_sound_comes_before_the_last_was_made(service: VoiceService) -> None:
    """It is decoded as it comes."""
    async with service.place(Script(drip_ms=20)) as (fake, engine):
        pieces, sound = await begun(engine, LONG)
        assert 0 < len(sound) < len(spoken(LONG)) / 10
        assert not fake.sessions[0].was_finished
        await pieces.aclose()


# Connections


@of(*KEEPING)
async def test_segments_follow_each_other_on_one_connection(service: VoiceService) -> None:
    """No new handshake for each sentence, also with a service that is slow to confirm the start."""
    async with service.place(fake={"started_ms": 10} if service in PIPED else {}) as (fake, engine):
        for number in range(5):
            assert await word(engine, mark(number)) == mark(number)
        assert fake.connections == 1
        assert len(fake.sessions) == 5
        assert len({session.id for session in fake.sessions}) == (5 if service in PIPED else 1)


@of(*PIPED)
async def test_an_unused_connection_is_closed(service: VoiceService) -> None:
    """Nobody asks again, so nobody keeps it; one service hangs up itself after ten seconds."""
    async with service.place(warm_s=0.05) as (fake, engine):
        await said(engine, "One.")
        await until(lambda: not fake.open_connections)
        assert await word(engine, mark(2)) == mark(2)


@of(*KEEPING)
async def test_a_connection_that_died_in_its_sleep_costs_no_segment(service: VoiceService) -> None:
    """A new one is made, or the segment is asked for once more."""
    async with service.place() as (fake, engine):
        await said(engine, "One.")
        await fake.close()
        await fake.start()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


@of(*SERVICES)
def test_certificates_are_read_when_it_is_made(service: VoiceService) -> None:
    """Which is off the loop: the first segment must not hold the loop for the tenth of a second that this takes."""
    trust.cache_clear()
    section = service.make().section()
    remote({key: value for key, value in section.items() if "url" not in key})
    assert trust.cache_info().currsize == 1


# Faults


@pytest.mark.parametrize(("service", "options", "fault", "code", "kind"), BEFORE_ANY_SOUND)
async def test_a_fault_before_the_first_sound_is_a_typed_error(
    service: VoiceService, options: dict[str, Any], fault: str, code: str, kind: Kind
) -> None:
    """Within the deadline, after one more attempt if that may help; no key is in the error."""
    async with service.place(faulty(fault), **options, **service.impatient(fault, 0.3)) as (fake, engine):
        error, sound = await failure(engine, "Hello.")
        assert (error.code, error.kind, sound) == (code, kind, b"")
        assert service.sight(fake) == (2 if kind is Kind.RETRYABLE else 1)
        assert service.secret not in f"{error!r} {error} {error.__cause__!r}"


@pytest.mark.parametrize(("service", "fault"), PASSING)
async def test_a_passing_fault_is_not_noticed(service: VoiceService, fault: str) -> None:
    """The one retry is heard, whole and once."""
    async with service.place(faulty(f"{fault}*1"), **service.impatient(fault, 2)) as (_, engine):
        assert service.is_whole(await said(engine, mark(7)), mark(7))


@pytest.mark.parametrize(("service", "fault", "code"), LATER)
async def test_a_fault_after_the_first_sound_ends_the_segment(service: VoiceService, fault: str, code: str) -> None:
    """What came is heard and nothing twice: there is no second attempt, and the connection is not used again."""
    script = faulty(f"{fault}*1", drip_ms=1)
    async with service.place(script, **service.impatient(fault, 1.5)) as (fake, engine):
        error, sound = await failure(engine, mark(1))
        assert error.code == code
        assert service.is_beginning(sound, mark(1))
        assert len(fake.sessions) == 1
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


@of(ALIYUN, HUOSHAN, EDGE)
@pytest.mark.parametrize("fault", ["wrong_session@start", "wrong_session@stream", "wrong_session@finish"])
async def test_what_belongs_to_another_session_is_not_heard(service: VoiceService, fault: str) -> None:
    """Neither its sound nor its end nor its failure."""
    async with service.place(faulty(fault)) as (_, engine):
        for number in (3, 4):
            assert service.is_whole(await said(engine, mark(number)), mark(number))


@pytest.mark.parametrize(("service", "options"), VARIANTS)
async def test_sound_that_comes_after_the_end_is_not_heard_by_the_next(
    service: VoiceService, options: dict[str, Any]
) -> None:
    """Neither on the same connection, if it is kept, nor on another."""
    slow = {"started_ms": 5} if service in PIPED else {}
    async with service.place(faulty("late_audio@finish"), fake=slow, **options) as (fake, engine):
        for number in range(4):
            assert service.is_whole(await said(engine, mark(number)), mark(number))
        assert fake.connections == (1 if service in KEEPING else 4)


@of(*SERVICES)
async def test_a_server_that_is_not_there_is_a_typed_error(service: VoiceService) -> None:
    """At once."""
    fake = service.make()
    async with fake:
        section = fake.section()
    engine = remote(section)
    await engine.start()
    try:
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind, error.reason) == (Code.CONNECT, Kind.RETRYABLE, "network")
    finally:
        await engine.close()


# Refusals


@of(*KEEPING)
async def test_a_wrong_key_is_not_tried_again(service: VoiceService) -> None:
    """It opens the breaker: the next segment goes to the fallback without asking."""
    async with service.place(**{service.secret_key: "wrong-key"}) as (fake, engine):
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.AUTH, Kind.FATAL)
        assert "wrong-key" not in f"{error!r} {error}"
        error, _ = await failure(engine, "Hello.")
        assert error.code == Code.OPEN
        assert service.sight(fake) == 1


@of(*SERVICES)
async def test_a_voice_that_a_device_asked_for_is_its_own_fault(service: VoiceService) -> None:
    """The breaker stays closed for the others; who has several formats may ask in each of them, once."""
    async with service.place() as (fake, engine):
        for _ in range(8):
            error, _ = await failure(engine, asked("Hello.", voice=service.nobody))
            assert (error.code, error.kind) == (Code.INPUT, Kind.INPUT)
        assert await word(engine, mark(1)) == mark(1)
        assert service is OPENAI or len(fake.sessions) == 9


# Aborts


@of(*SERVICES)
async def test_a_segment_that_nobody_asked_a_piece_of_connects_nowhere(service: VoiceService) -> None:
    """Closed before it began."""
    async with service.place() as (fake, engine):
        await engine.speak(asked("Hello.")).aclose()
        assert (fake.connections, fake.sessions) == (0, [])


@of(ALIYUN, HUOSHAN, EDGE)
async def test_an_abort_while_connecting_leaves_nothing(service: VoiceService) -> None:
    """The half-open connection is cut at once."""
    async with service.place(faulty("silent@connect")) as (fake, engine):
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.connections)
        await _given_up(task)
        assert fake.sessions == []


@of(ALIYUN, EDGE, OPENAI)
async def test_an_abort_before_the_first_piece_closes_the_connection(service: VoiceService) -> None:
    """There is no other way to tell the service; the next segment has another."""
    async with service.place(Script(latency_ms=60_000)) as (fake, engine):
        task = asyncio.create_task(said(engine, "Hello."))
        await until(lambda: fake.sessions and fake.sessions[0].texts)
        await _given_up(task)
        await _is_left(fake)
        fake.script = Script()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


@of(*CUTTING)
@pytest.mark.parametrize("fault", [None, "silent@stream"])
async def test_an_abort_in_the_middle_closes_the_connection(service: VoiceService, fault: str | None) -> None:
    """Also of a service that says nothing any more; it costs no attempt of the next one."""
    async with service.place(Script(drip_ms=20, fault=Fault.parse(fault) if fault else None)) as (fake, engine):
        pieces, _ = await begun(engine, LONG)
        await pieces.aclose()
        await _is_left(fake)
        fake.script = Script()
        assert await word(engine, mark(2)) == mark(2)
        assert fake.connections == 2


async def _given_up(task: asyncio.Task[bytes]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _is_left(fake: Fake) -> None:
    """The first session's client has hung up, and its server has seen it."""
    await until(lambda: fake.sessions[0].was_closed and not fake.running)


@of(*PIPED)
async def test_an_abort_after_the_last_piece_leaves_no_old_sound(service: VoiceService) -> None:
    """Whether the service's end or our abort came first; its seat is free."""
    async with service.place(max_sessions=1) as (_, engine):
        for number in range(5):
            pieces, sound = await begun(engine, mark(number))
            while len(sound) < len(spoken(mark(number))):
                sound += await anext(pieces)
            await pieces.aclose()
            assert await said(engine, mark(number + 10)) == spoken(mark(number + 10))


@of(*SERVICES)
async def test_an_abort_counts_neither_for_nor_against_the_service(service: VoiceService) -> None:
    """Twenty people interrupt, and the breaker is as before."""
    async with service.place(Script(drip_ms=20)) as (_, engine):
        for _ in range(20):
            pieces, _ = await begun(engine, LONG)
            await pieces.aclose()
        assert await word(engine, mark(1)) == mark(1)


# Many at once


@of(*PIPED)
async def test_a_hundred_at_once_share_ten_seats_and_hear_their_own(service: VoiceService) -> None:
    """The provider never sees an eleventh session, nobody is refused, and no sound goes astray."""
    async with service.place(fake={"max_sessions": 10}, max_sessions=10) as (fake, engine):
        words = await asyncio.gather(*(word(engine, mark(number)) for number in range(100)))
        assert words == [mark(number) for number in range(100)]
        assert fake.most_speaking <= 10
        assert Counter(session.fault for session in fake.sessions) == {"": 100}


@of(*CUTTING)
async def test_many_at_once_each_hear_their_own(service: VoiceService) -> None:
    """Nothing is shared but the section."""
    async with service.place() as (fake, engine):
        heard = await asyncio.gather(*(word(engine, mark(number)) for number in range(20)))
        assert heard == [mark(number) for number in range(20)]
        assert service in KEEPING or fake.connections == 20


@of(*PIPED)
async def test_who_finds_no_seat_in_time_goes_without(service: VoiceService) -> None:
    """A bounded wait, then the fallback's turn."""
    async with service.place(Script(drip_ms=50), max_sessions=1, queue_timeout_s=0.1) as (_, engine):
        pieces, _ = await begun(engine, LONG)
        error, _ = await failure(engine, "Hello.")
        assert (error.code, error.kind) == (Code.BUSY, Kind.QUOTA)
        await pieces.aclose()
