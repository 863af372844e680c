"""What every recogniser that streams to a service must do, checked with the real client against each service's fake."""

from __future__ import annotations

import asyncio

import pytest

from bench.upstreams.fake import Fake
from bench.upstreams.script import Script
from shared.marks import Mark
from shared.upstream.faults import Code
from tests.fakes.link_rig import until
from tests.fakes.recogniser_services import (
    ALIYUN,
    DEADLINES,
    DOUBAO,
    FUN,
    FUN_PYTHON,
    PROVIDERS,
    SERVICES,
    RecogniserService,
)
from tests.fakes.remote_asr import (
    LONG,
    PATIENCE_S,
    Ear,
    engine_of,
    failure_of,
    marked,
    next_failure,
    quiet,
    recogniser_from,
    recogniser_of,
    refusing_port,
    text_of,
    with_fault,
)
from workers.asr.engines.remote import RemoteRecogniser

pytestmark = pytest.mark.contract


def of(*services: RecogniserService) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", services, ids=[service.name for service in services])


EMPTY = [pytest.param(service, fault, id=f"{service.name}-{fault}") for service in SERVICES for fault in service.empty]
HARMLESS = [
    pytest.param(service, fault, id=f"{service.name}-{fault}") for service in SERVICES for fault in service.harmless
]
FAULTS = [
    pytest.param(service, fault, code, id=f"{service.name}-{fault}")
    for service in PROVIDERS
    for fault, code in service.faults.items()
]


@of(*SERVICES)
async def test_what_is_said_comes_back(service: RecogniserService) -> None:
    """Every sample arrives, the text is the sound's own, and partials come before it."""
    pcm, ear = marked(Mark(3, 5), 1530), Ear()
    async with service.make() as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, pcm, ear) == Mark(3, 5).word
        sent_bytes = -(-len(pcm) // service.packet_bytes) * service.packet_bytes
        assert [(one.audio_bytes, one.was_finished) for one in fake.sessions] == [(sent_bytes, True)]
    assert set(ear.partials) == ({Mark(3, 5).word} if service.tells_partials else set())


@of(*SERVICES)
async def test_each_utterance_has_a_session_and_a_connection_of_its_own(service: RecogniserService) -> None:
    """And a recogniser takes one after another."""
    async with service.make() as fake, recogniser_of(fake) as recogniser:
        for turn in range(3):
            assert await text_of(recogniser, marked(Mark(1, turn))) == Mark(1, turn).word
        assert [one.was_finished for one in fake.sessions] == [True] * 3
        names = len({one.id for one in fake.sessions})
        assert (fake.connections, names) == (3, 3 if service.names_sessions else 1)


@of(*SERVICES)
async def test_nothing_said_is_an_empty_text(service: RecogniserService) -> None:
    """Silence, and no sound at all."""
    async with service.make() as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, quiet(900)) == ""
        assert await text_of(recogniser, b"") == ""


@pytest.mark.parametrize(("service", "fault"), EMPTY)
async def test_an_upstream_that_heard_nothing_gives_an_empty_text(service: RecogniserService, fault: str) -> None:
    """Whichever way it says so."""
    async with service.make(with_fault(fault)) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(1, 1), 300)) == ""


@pytest.mark.parametrize(("service", "fault"), HARMLESS)
async def test_what_belongs_to_another_session_changes_nothing(service: RecogniserService, fault: str) -> None:
    """Another's words, another's failure, and words that come after the end."""
    async with service.make(with_fault(fault)) as fake, recogniser_of(fake) as recogniser:
        for turn in range(2):
            assert await text_of(recogniser, marked(Mark(2, turn))) == Mark(2, turn).word


@pytest.mark.parametrize(("service", "fault", "code"), FAULTS)
async def test_every_fault_is_a_typed_failure_within_the_deadline(
    service: RecogniserService, fault: str, code: str
) -> None:
    """It names no key and nothing that was said, the connection is closed, and the next utterance is heard."""
    deadline = {DEADLINES[code]: 0.4} if code in DEADLINES else {}
    async with service.make(with_fault(f"{fault}*1")) as fake, engine_of(fake, {**LONG, **deadline}) as engine:
        secrets = [str(value) for key, value in fake.section().items() if "key" in key or "token" in key]
        async with recogniser_from(engine) as recogniser:
            failure = await failure_of(recogniser, marked(Mark(1, 1)))
        assert failure.code == code
        assert not any(secret in f"{failure!r} {failure.reason}" for secret in secrets)
        await until(lambda: all(one.was_closed for one in fake.sessions if "silent" in one.fault))
        if not deadline:
            async with recogniser_from(engine) as recogniser:
                assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word
        async with recogniser_of(fake) as recogniser:
            assert await text_of(recogniser, marked(Mark(1, 3))) == Mark(1, 3).word


@of(*PROVIDERS)
async def test_a_failure_frees_its_seat(service: RecogniserService) -> None:
    """With one session allowed, those that failed, were cancelled or ended well hold nothing."""
    async with service.make(with_fault("close@stream*1")) as fake, recogniser_of(fake, max_sessions=1) as recogniser:
        await failure_of(recogniser, marked(Mark(1, 1)))
        await recogniser.cancel()
        for turn in range(2):
            recogniser.begin(Ear().brief(), Ear().on_partial)
            recogniser.feed(marked(Mark(1, turn)))
            await recogniser.cancel()
            assert await text_of(recogniser, marked(Mark(1, turn))) == Mark(1, turn).word


@of(*PROVIDERS)
async def test_a_failed_session_says_so_at_the_next_sound(service: RecogniserService) -> None:
    """Whoever feeds is told; nobody has to wait for the end of speech."""
    async with service.make(with_fault("error@start")) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        assert (await next_failure(recogniser)).code == Code.FAILED


@of(ALIYUN, DOUBAO)
async def test_the_reason_counts_more_than_the_close(service: RecogniserService) -> None:
    """A service says why and hangs up while much sound is on its way to it."""
    async with service.make(with_fault("quota@stream")) as fake, recogniser_of(fake) as recogniser:
        assert (await failure_of(recogniser, marked(Mark(1, 1), 30_000))).code == Code.QUOTA


@of(*PROVIDERS)
async def test_the_end_waits_for_the_start_behind_the_sound(service: RecogniserService) -> None:
    """A finish that comes before the service is ready loses nothing."""
    pcm = marked(Mark(4, 4), 900)
    async with service.make(Script(latency_ms=200)) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(pcm)
        async with asyncio.timeout(PATIENCE_S):
            assert (await recogniser.finish()).text == Mark(4, 4).word
        assert fake.sessions[0].audio_bytes == len(pcm)


@of(*PROVIDERS)
async def test_a_slow_drip_is_heard_to_its_end(service: RecogniserService) -> None:
    """Each piece within the deadline is enough."""
    async with service.make(Script(drip_ms=60)) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(5, 5), 2000)) == Mark(5, 5).word


@of(*PROVIDERS)
@pytest.mark.parametrize("fault", ["", "silent@start", "silent@stream"])
async def test_a_cancel_is_seen_upstream_at_once(service: RecogniserService, fault: str) -> None:
    """The connection is closed when `cancel` returns, also of a service that has fallen silent."""
    async with service.make(with_fault(fault) if fault else None) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(marked(Mark(1, 1)))
        await until(lambda: fake.sessions and (fake.sessions[0].audio_bytes or fault == "silent@start"))
        await recogniser.cancel()
        await until(lambda: fake.sessions[0].was_closed)
        assert not fake.sessions[0].was_finished
        fake.script = Script()
        assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


@of(*PROVIDERS)
async def test_a_finish_that_is_given_up_closes_the_session(service: RecogniserService) -> None:
    """The caller's deadline is kept by the caller; then the recogniser is closed."""
    async with service.make(with_fault("silent@finish")) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(marked(Mark(1, 1)))
        finishing = asyncio.create_task(recogniser.finish())
        await until(lambda: fake.sessions and fake.sessions[0].was_finished)
        finishing.cancel()
        await asyncio.wait([finishing])
        assert finishing.cancelled()
        await recogniser.close()
        await until(lambda: fake.sessions[0].was_closed)


@of(*PROVIDERS)
async def test_many_utterances_at_once_do_not_mix(service: RecogniserService) -> None:
    """Twenty recognisers of one engine, each with its own words."""
    async with service.make(Script(latency_ms=20)) as fake, engine_of(fake, LONG) as engine:
        marks = [Mark(number, number) for number in range(20)]

        async def said(mark: Mark) -> str:
            async with recogniser_from(engine) as recogniser:
                return await text_of(recogniser, marked(mark))

        texts = await asyncio.gather(*map(said, marks))
    assert texts == [mark.word for mark in marks]


@of(ALIYUN, DOUBAO)
async def test_the_upstream_may_own_the_end_of_speech(service: RecogniserService) -> None:
    """It is told once an utterance, with its place; what comes until the finish still belongs to the text."""
    async with service.make() as fake, recogniser_of(fake, endpoint="upstream") as recogniser:
        for turn in range(2):
            ear = await two_sentences(fake, recogniser, turn)
            async with asyncio.timeout(PATIENCE_S):
                text = (await recogniser.finish()).text
            assert text == f"{Mark(turn, 0).word} {Mark(turn, 1).word}"
            assert len(ear.endpoints) == 1
            assert ear.endpoints[0] is not None
            assert 900 <= ear.endpoints[0] <= 900 + 2400


@of(ALIYUN, DOUBAO)
async def test_what_is_said_behind_an_accepted_end_is_not_in_the_text(service: RecogniserService) -> None:
    """That sound is heard again, as the next utterance's: nobody shall hear it twice."""
    async with service.make() as fake, recogniser_of(fake, endpoint="upstream") as recogniser:
        for turn in range(2):
            await two_sentences(fake, recogniser, turn, ends_there=True)
            async with asyncio.timeout(PATIENCE_S):
                assert (await recogniser.finish()).text == Mark(turn, 0).word


async def two_sentences(fake: Fake, recogniser: RemoteRecogniser, turn: int, *, ends_there: bool = False) -> Ear:
    """An utterance that the service cuts twice, up to its finish."""
    ear = Ear(ends_there=ends_there)
    recogniser.begin(ear.brief(turn), ear.on_partial)
    for part in range(2):
        recogniser.feed(marked(Mark(turn, part), 900))
        for _ in range(2):
            recogniser.feed(quiet(1200))
        told = [Mark(turn, number).word for number in range(part + 1)]
        await until(lambda: any(one.texts == told for one in fake.sessions))  # noqa: B023
    await until(lambda: ear.endpoints)
    return ear


@of(ALIYUN, DOUBAO, FUN, FUN_PYTHON)
async def test_sentences_that_the_upstream_cuts_are_joined(service: RecogniserService) -> None:
    """With our own search for the end, what the service thinks is told to nobody."""
    # One service ends no sentence within its first ten seconds, another after 800 ms of silence.
    pcm, ear = marked(Mark(1, 1)) + quiet(11_000) + marked(Mark(1, 2)) + quiet(900) + marked(Mark(1, 3)), Ear()
    async with service.make() as fake, recogniser_of(fake, **service.soon) as recogniser:
        assert await text_of(recogniser, pcm, ear) == " ".join(Mark(1, turn).word for turn in (1, 2, 3))
        assert len(fake.sessions[0].texts) == 3
    assert ear.endpoints == []


@of(*PROVIDERS)
async def test_nobody_there_is_a_failure_to_connect(service: RecogniserService) -> None:
    """A host that refuses."""
    with refusing_port() as port:
        async with service.make() as fake, recogniser_of(fake, **service.address(port)) as recogniser:
            assert (await failure_of(recogniser, marked(Mark(1, 1)))).code == Code.CONNECT


@of(*PROVIDERS)
async def test_a_service_that_refuses_is_left_alone_for_a_while(service: RecogniserService) -> None:
    """Its breaker opens: the next utterance fails at once and the service does not see it."""
    async with service.make(with_fault("error@start")) as fake, recogniser_of(fake) as recogniser:

        async def has_opened() -> bool:
            return (await failure_of(recogniser, marked(Mark(1, 1)))).code == Code.OPEN

        for _ in range(50):
            if await has_opened():
                break
        seen = fake.connections
        assert await has_opened()
        assert fake.connections == seen
