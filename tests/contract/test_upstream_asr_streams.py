"""What every recogniser that streams to a service must do, checked with the real client against each service's fake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bench.upstreams.aliyun_asr import AliyunAsr
from bench.upstreams.doubao import Doubao
from bench.upstreams.fake import HOST, Fake
from bench.upstreams.script import Fault, Script
from shared.marks import Mark
from shared.upstream.faults import Code, UpstreamError
from tests.fakes.link_rig import until
from tests.fakes.remote_asr import (
    LONG,
    PATIENCE_S,
    Ear,
    engine_of,
    marked,
    quiet,
    recogniser_from,
    recogniser_of,
    refusing_port,
    text_of,
)
from workers.asr.engines.remote import RemoteRecogniser

pytestmark = pytest.mark.contract

FAKES = pytest.mark.parametrize("make", [AliyunAsr, Doubao])
Make = Callable[..., Fake]

FAULTS = {
    "silent@connect": {Code.CONNECT_TIMEOUT},
    "error@connect": {Code.FAILED},
    "quota@connect": {Code.QUOTA},
    "close@connect": {Code.CONNECT},
    "garbage@connect": {Code.CONNECT},
    "silent@start": {Code.FIRST_TIMEOUT},
    "error@start": {Code.FAILED},
    "quota@start": {Code.QUOTA},
    "close@start": {Code.CLOSED},
    "garbage@start": {Code.MALFORMED},
    "silent@stream": {Code.IDLE_TIMEOUT},
    "error@stream": {Code.FAILED},
    "quota@stream": {Code.QUOTA},
    "close@stream": {Code.CLOSED},
    "garbage@stream": {Code.MALFORMED},
    "silent@finish": {Code.IDLE_TIMEOUT},
    "error@finish": {Code.FAILED},
    "quota@finish": {Code.QUOTA},
    "close@finish": {Code.CLOSED},
    "garbage@finish": {Code.MALFORMED},
}
DEADLINE = {
    "silent@connect": "connect_timeout_s",
    "silent@start": "first_timeout_s",
    "silent@stream": "idle_timeout_s",
    "silent@finish": "idle_timeout_s",
}
EMPTY = ("no_result@finish", "no_speech@finish")
HARMLESS = ("wrong_session@start", "wrong_session@stream", "wrong_session@finish", "late_audio@finish")


def with_fault(text: str) -> Script:
    return Script(fault=Fault.parse(text))


async def failure_of(recogniser: RemoteRecogniser, pcm: bytes) -> UpstreamError:
    with pytest.raises(UpstreamError) as failure:
        await text_of(recogniser, pcm)
    return failure.value


async def next_failure(recogniser: RemoteRecogniser) -> UpstreamError:
    """What `feed` raises at last."""
    failures: list[UpstreamError] = []

    def has_failed() -> bool:
        try:
            recogniser.feed(b"")
        except UpstreamError as error:
            failures.append(error)
        return bool(failures)

    await until(has_failed)
    return failures[0]


@FAKES
async def test_what_is_said_comes_back(make: Make) -> None:
    """Every sample arrives, the text is the sound's own, and partials come before it."""
    pcm, ear = marked(Mark(3, 5), 1530), Ear()
    async with make() as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, pcm, ear) == Mark(3, 5).word
        assert [(one.audio_bytes, one.was_finished) for one in fake.sessions] == [(len(pcm), True)]
    assert ear.partials
    assert set(ear.partials) == {Mark(3, 5).word}


@FAKES
async def test_each_utterance_has_a_session_and_a_connection_of_its_own(make: Make) -> None:
    """And a recogniser takes one after another."""
    async with make() as fake, recogniser_of(fake) as recogniser:
        for turn in range(3):
            assert await text_of(recogniser, marked(Mark(1, turn))) == Mark(1, turn).word
        assert (fake.connections, len({one.id for one in fake.sessions})) == (3, 3)


@FAKES
async def test_nothing_said_is_an_empty_text(make: Make) -> None:
    """Silence, and no sound at all."""
    async with make() as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, quiet(900)) == ""
        assert await text_of(recogniser, b"") == ""


@FAKES
@pytest.mark.parametrize("fault", EMPTY)
async def test_an_upstream_that_heard_nothing_gives_an_empty_text(make: Make, fault: str) -> None:
    """Whichever way it says so."""
    async with make(with_fault(fault)) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(1, 1), 300)) == ""


@FAKES
@pytest.mark.parametrize("fault", HARMLESS)
async def test_what_belongs_to_another_session_changes_nothing(make: Make, fault: str) -> None:
    """Another's words, another's failure, and words that come after the end."""
    async with make(with_fault(fault)) as fake, recogniser_of(fake) as recogniser:
        for turn in range(2):
            assert await text_of(recogniser, marked(Mark(2, turn))) == Mark(2, turn).word


@FAKES
@pytest.mark.parametrize(("fault", "codes"), FAULTS.items())
async def test_every_fault_is_a_typed_failure_within_the_deadline(make: Make, fault: str, codes: set[str]) -> None:
    """It names no key and nothing that was said, the connection is closed, and the next utterance is heard."""
    deadline = {DEADLINE[fault]: 0.5} if fault in DEADLINE else {}
    async with make(with_fault(f"{fault}*1")) as fake, engine_of(fake, {**LONG, **deadline}) as engine:
        secrets = [str(value) for key, value in fake.section().items() if "key" in key or "token" in key]
        async with recogniser_from(engine) as recogniser:
            failure = await failure_of(recogniser, marked(Mark(1, 1)))
        assert failure.code in codes
        assert not any(secret in f"{failure!r} {failure.reason}" for secret in secrets)
        await until(lambda: all(one.was_closed for one in fake.sessions if "silent" in one.fault))
        fake.script = Script()
        if fault not in DEADLINE:
            async with recogniser_from(engine) as recogniser:
                assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


@FAKES
async def test_a_failure_frees_its_seat(make: Make) -> None:
    """With one session allowed, those that failed, were cancelled or ended well hold nothing."""
    async with make(with_fault("close@stream*1")) as fake, recogniser_of(fake, max_sessions=1) as recogniser:
        await failure_of(recogniser, marked(Mark(1, 1)))
        await recogniser.cancel()
        for turn in range(2):
            recogniser.begin(Ear().brief(), Ear().on_partial)
            recogniser.feed(marked(Mark(1, turn)))
            await recogniser.cancel()
            assert await text_of(recogniser, marked(Mark(1, turn))) == Mark(1, turn).word


@FAKES
async def test_a_failed_session_says_so_at_the_next_sound(make: Make) -> None:
    """Whoever feeds is told; nobody has to wait for the end of speech."""
    async with make(with_fault("error@start")) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        assert (await next_failure(recogniser)).code == Code.FAILED


@FAKES
async def test_the_reason_counts_more_than_the_close(make: Make) -> None:
    """A service says why and hangs up while much sound is on its way to it."""
    async with make(with_fault("quota@stream")) as fake, recogniser_of(fake) as recogniser:
        assert (await failure_of(recogniser, marked(Mark(1, 1), 30_000))).code == Code.QUOTA


@FAKES
async def test_the_end_waits_for_the_start_behind_the_sound(make: Make) -> None:
    """A finish that comes before the service is ready loses nothing."""
    pcm = marked(Mark(4, 4), 900)
    async with make(Script(latency_ms=200)) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(pcm)
        async with asyncio.timeout(PATIENCE_S):
            assert (await recogniser.finish()).text == Mark(4, 4).word
        assert fake.sessions[0].audio_bytes == len(pcm)


@FAKES
async def test_a_slow_drip_is_heard_to_its_end(make: Make) -> None:
    """Each piece within the deadline is enough."""
    async with make(Script(drip_ms=60)) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(5, 5), 2000)) == Mark(5, 5).word


@FAKES
@pytest.mark.parametrize("fault", ["", "silent@start", "silent@stream"])
async def test_a_cancel_is_seen_upstream_at_once(make: Make, fault: str) -> None:
    """The connection is closed when `cancel` returns, also of a service that has fallen silent."""
    async with make(with_fault(fault) if fault else None) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(marked(Mark(1, 1)))
        await until(lambda: fake.sessions and (fake.sessions[0].audio_bytes or fault == "silent@start"))
        await recogniser.cancel()
        await until(lambda: fake.sessions[0].was_closed)
        assert not fake.sessions[0].was_finished
        fake.script = Script()
        assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


@FAKES
async def test_a_finish_that_is_given_up_closes_the_session(make: Make) -> None:
    """The caller's deadline is kept by the caller; then the recogniser is closed."""
    async with make(with_fault("silent@finish")) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(marked(Mark(1, 1)))
        finishing = asyncio.create_task(recogniser.finish())
        await until(lambda: fake.sessions and fake.sessions[0].was_finished)
        finishing.cancel()
        await asyncio.wait([finishing])
        assert finishing.cancelled()
        await recogniser.close()
        await until(lambda: fake.sessions[0].was_closed)


@FAKES
async def test_many_utterances_at_once_do_not_mix(make: Make) -> None:
    """Twenty recognisers of one engine, each with its own words."""
    async with make(Script(latency_ms=20)) as fake, engine_of(fake, LONG) as engine:
        marks = [Mark(number, number) for number in range(20)]

        async def said(mark: Mark) -> str:
            async with recogniser_from(engine) as recogniser:
                return await text_of(recogniser, marked(mark))

        texts = await asyncio.gather(*map(said, marks))
    assert texts == [mark.word for mark in marks]


@FAKES
async def test_the_upstream_may_own_the_end_of_speech(make: Make) -> None:
    """It is told once an utterance, with its place; what comes until the finish still belongs to the text."""
    async with make() as fake, recogniser_of(fake, endpoint="upstream") as recogniser:
        for turn in range(2):
            ear = await two_sentences(fake, recogniser, turn)
            async with asyncio.timeout(PATIENCE_S):
                text = (await recogniser.finish()).text
            assert text == f"{Mark(turn, 0).word} {Mark(turn, 1).word}"
            assert len(ear.endpoints) == 1
            assert ear.endpoints[0] is not None
            assert 900 <= ear.endpoints[0] <= 900 + 2400


async def two_sentences(fake: Fake, recogniser: RemoteRecogniser, turn: int) -> Ear:
    """An utterance that the service cuts twice, up to its finish."""
    ear = Ear()
    recogniser.begin(ear.brief(turn), ear.on_partial)
    for part in range(2):
        recogniser.feed(marked(Mark(turn, part), 900))
        for _ in range(2):
            recogniser.feed(quiet(1200))
        told = [Mark(turn, number).word for number in range(part + 1)]
        await until(lambda: any(one.texts == told for one in fake.sessions))  # noqa: B023
    await until(lambda: ear.endpoints)
    return ear


@FAKES
async def test_sentences_that_the_upstream_cuts_are_joined(make: Make) -> None:
    """With our own search for the end, what the service thinks is told to nobody."""
    keys = {"max_sentence_silence": 200, "end_window_size": 200}
    pcm, ear = marked(Mark(1, 1)) + quiet(11_000) + marked(Mark(1, 2)) + quiet(600) + marked(Mark(1, 3)), Ear()
    async with make() as fake, recogniser_of(fake, **keys) as recogniser:
        assert await text_of(recogniser, pcm, ear) == " ".join(Mark(1, turn).word for turn in (1, 2, 3))
        assert len(fake.sessions[0].texts) == 3
    assert ear.endpoints == []


@FAKES
async def test_nobody_there_is_a_failure_to_connect(make: Make) -> None:
    """A host that refuses."""
    with refusing_port() as port:
        async with make() as fake, recogniser_of(fake, ws_url=f"ws://{HOST}:{port}/") as recogniser:
            assert (await failure_of(recogniser, marked(Mark(1, 1)))).code == Code.CONNECT


@FAKES
async def test_a_service_that_refuses_is_left_alone_for_a_while(make: Make) -> None:
    """Its breaker opens: the next utterance fails at once and the service does not see it."""
    async with make(with_fault("error@start")) as fake, recogniser_of(fake) as recogniser:

        async def has_opened() -> bool:
            return (await failure_of(recogniser, marked(Mark(1, 1)))).code == Code.OPEN

        for _ in range(50):
            if await has_opened():
                break
        seen = fake.connections
        assert await has_opened()
        assert fake.connections == seen
