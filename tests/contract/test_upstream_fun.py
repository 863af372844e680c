"""FunASR's WebSocket servers: three of them, that agree on the sound and differ in how they say that they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bench.upstreams.fun_asr import FunAsr, Server
from bench.upstreams.script import Fault, Script
from shared.errors import ConfigError
from shared.marks import Mark
from shared.settings import EngineChoice
from shared.upstream.faults import Code, UpstreamError
from tests.fakes.link_rig import until
from tests.fakes.remote_asr import LONG, PATIENCE_S, Ear, engine_of, marked, quiet, recogniser_of, text_of
from workers.asr.engines.fun_protocol import PACKET_BYTES
from workers.asr.engines.registry import make_engine
from workers.asr.engines.remote import RemoteRecogniser

pytestmark = pytest.mark.contract

SERVERS = pytest.mark.parametrize("server", ["cpp", "python", "cpp_offline"])
ONLINE = pytest.mark.parametrize("server", ["cpp", "python"])

FAULTS = {
    "silent@connect": Code.CONNECT_TIMEOUT,
    "error@connect": Code.FAILED,
    "quota@connect": Code.QUOTA,
    "close@connect": Code.CONNECT,
    "garbage@connect": Code.CONNECT,
    "silent@start": Code.IDLE_TIMEOUT,
    "error@start": Code.FAILED,
    "close@start": Code.CLOSED,
    "garbage@start": Code.MALFORMED,
    "silent@stream": Code.IDLE_TIMEOUT,
    "error@stream": Code.FAILED,
    "close@stream": Code.CLOSED,
    "garbage@stream": Code.MALFORMED,
    "silent@finish": Code.IDLE_TIMEOUT,
    "error@finish": Code.FAILED,
    "close@finish": Code.CLOSED,
    "garbage@finish": Code.MALFORMED,
}
SHORT = {Code.CONNECT_TIMEOUT: {"connect_timeout_s": 0.3}, Code.IDLE_TIMEOUT: {"idle_timeout_s": 0.3}}
"""The deadline that a fault is to run into; the others are never missed."""
HARMLESS = ("wrong_session@start", "wrong_session@stream", "wrong_session@finish")


def with_fault(text: str) -> Script:
    return Script(fault=Fault.parse(text))


async def failure_of(recogniser: RemoteRecogniser, pcm: bytes) -> UpstreamError:
    with pytest.raises(UpstreamError) as failure:
        await text_of(recogniser, pcm)
    return failure.value


async def until_seen(ear: Ear, is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            ear.changed.clear()
            await ear.changed.wait()


@SERVERS
async def test_what_is_said_comes_back(server: Server) -> None:
    """Every sample arrives, in packets of 60 ms, and the text is the sound's own."""
    pcm = marked(Mark(3, 5), 1530)
    async with FunAsr(server=server) as fake, recogniser_of(fake) as recogniser:
        for _ in range(2):
            assert await text_of(recogniser, pcm) == Mark(3, 5).word
        assert [one.was_finished for one in fake.sessions] == [True, True]
        assert fake.sessions[0].audio_bytes == -(-len(pcm) // PACKET_BYTES) * PACKET_BYTES
        assert (fake.connections, len({one.id for one in fake.sessions})) == (2, 1)


@ONLINE
async def test_partials_come_while_one_speaks(server: Server) -> None:
    """Pieces are put together; the corrected sentence takes their place."""
    ear = Ear()
    async with FunAsr(server=server) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(ear.brief(), ear.on_partial)
        recogniser.feed(marked(Mark(2, 4), 1300))
        await until_seen(ear, lambda: ear.partials)
        async with asyncio.timeout(PATIENCE_S):
            assert (await recogniser.finish()).text == Mark(2, 4).word
    assert set(ear.partials) == {Mark(2, 4).word}


@SERVERS
async def test_nothing_said_is_an_empty_text(server: Server) -> None:
    """Silence, no sound at all, and a server that made nothing of it."""
    async with FunAsr(with_fault("no_result@finish"), server=server) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(1, 1), 300)) == ""
        fake.script = Script()
        assert await text_of(recogniser, quiet(900)) == ""
        assert await text_of(recogniser, b"") == ""


@ONLINE
async def test_sentences_that_the_server_cuts_are_joined(server: Server) -> None:
    """With our own search for the end, what the server thinks is told to nobody."""
    pcm, ear = marked(Mark(1, 1)) + quiet(1200) + marked(Mark(1, 2)) + quiet(900) + marked(Mark(1, 3)), Ear()
    async with FunAsr(server=server) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, pcm, ear) == " ".join(Mark(1, turn).word for turn in (1, 2, 3))
        assert len(fake.sessions[0].texts) == 3
    assert ear.endpoints == []


@ONLINE
async def test_the_server_may_own_the_end_of_speech(server: Server) -> None:
    """It is told once an utterance; the text comes at the finish."""
    async with FunAsr(server=server) as fake, recogniser_of(fake, endpoint="upstream") as recogniser:
        for turn in range(2):
            ear = Ear()
            recogniser.begin(ear.brief(turn), ear.on_partial)
            recogniser.feed(marked(Mark(1, turn), 900) + quiet(1200))
            await until_seen(ear, partial(bool, ear.endpoints))
            recogniser.feed(quiet(1200))
            async with asyncio.timeout(PATIENCE_S):
                assert (await recogniser.finish()).text == Mark(1, turn).word
            assert ear.endpoints == [None]


@SERVERS
@pytest.mark.parametrize("fault", HARMLESS)
async def test_what_belongs_to_another_session_changes_nothing(server: Server, fault: str) -> None:
    """Every answer repeats the name that the client gave."""
    async with FunAsr(with_fault(fault), server=server) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(2, 2))) == Mark(2, 2).word


@pytest.mark.parametrize(("fault", "code"), FAULTS.items())
async def test_every_fault_is_a_typed_failure_within_the_deadline(fault: str, code: str) -> None:
    """The connection is closed, and the next utterance is heard."""
    script, options = with_fault(f"{fault}*1"), SHORT.get(code, {})
    async with FunAsr(script, server="cpp") as fake, recogniser_of(fake, **options) as recogniser:
        assert (await failure_of(recogniser, marked(Mark(1, 1)))).code == code
        await recogniser.close()
        await until(lambda: all(one.was_closed for one in fake.sessions if "silent" in one.fault))
    async with FunAsr(server="cpp") as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


async def test_a_server_that_is_always_late_is_left_alone_for_a_while() -> None:
    """Whoever waited has given up each time: its breaker opens, and the next utterance does not wait."""
    async with FunAsr(with_fault("silent@finish")) as fake, engine_of(fake, LONG) as engine:
        failures: list[str] = []
        for _ in range(50):
            recogniser = await engine.make(lambda error: None)
            recogniser.begin(Ear().brief(), Ear().on_partial)
            try:
                async with asyncio.timeout(0.1):
                    await recogniser.finish()
            except TimeoutError:
                await recogniser.close()
            except UpstreamError as error:
                failures.append(error.code)
                break
        assert failures == [Code.OPEN]


@pytest.mark.parametrize("fault", ["", "silent@start", "silent@stream"])
async def test_a_cancel_is_seen_upstream_at_once(fault: str) -> None:
    """The connection is closed when `cancel` returns, also of a server that has fallen silent."""
    async with FunAsr(with_fault(fault) if fault else None) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(marked(Mark(1, 1)))
        await until(lambda: fake.sessions and (fake.sessions[0].audio_bytes or fault == "silent@start"))
        await recogniser.cancel()
        await until(lambda: fake.sessions[0].was_closed)
        assert not fake.sessions[0].was_finished
        fake.script = Script()
        assert await text_of(recogniser, marked(Mark(1, 2))) == Mark(1, 2).word


async def test_many_utterances_at_once_do_not_mix() -> None:
    """Twenty recognisers of one engine, each with its own words."""
    async with FunAsr(Script(latency_ms=20)) as fake, engine_of(fake, LONG) as engine:
        recognisers = [await engine.make(lambda error: None) for _ in range(20)]

        async def said(number: int) -> str:
            recogniser = recognisers[number]
            assert isinstance(recogniser, RemoteRecogniser)
            return await text_of(recogniser, marked(Mark(number, number)))

        texts = await asyncio.gather(*map(said, range(20)))
        await asyncio.gather(*(one.close() for one in recognisers))
    assert texts == [Mark(number, number).word for number in range(20)]


async def test_what_the_section_says_reaches_the_server() -> None:
    """Today's keys and ours, numbers and truth as text too; a key of "none" is none."""
    async with FunAsr() as fake:
        plain: dict[str, Any] = {"mode": "offline", "api_key": "none", "is_ssl": "false"}
        keys = {"api_key": "secret", "itn": "true", "chunk_size": ["8", 8, 4], "hotwords": {"阿里巴巴": 20}}
        for options in (plain, keys):
            async with recogniser_of(fake, **options) as recogniser:
                await text_of(recogniser, marked(Mark(1, 1)))
        first, second = fake.sessions
        assert (first.started["mode"], first.started["itn"], first.started["chunk_size"]) == (
            "offline",
            False,
            [5, 10, 5],
        )
        assert "hotwords" not in first.started and "Authorization" not in first.headers
        assert (second.started["mode"], second.started["itn"], second.started["chunk_size"]) == (
            "2pass",
            True,
            [8, 8, 4],
        )
        assert second.started["hotwords"] == '{"阿里巴巴": 20}'
        assert second.headers["Authorization"] == "Bearer; secret"
        assert all(
            (one.started["audio_fs"], one.started["wav_format"], one.started["is_speaking"]) == (16_000, "pcm", True)
            for one in fake.sessions
        )


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"host": "wss://host"}, "host"),
        ({"port": "0"}, "port"),
        ({"mode": "online"}, "mode"),
        ({"endpoint": "upstream"}, "endpoint"),
        ({"chunk_size": [5, 10]}, "chunk_size"),
    ],
)
def test_a_wrong_key_is_named(options: dict[str, Any], key: str) -> None:
    """With its value and what was expected; an end of speech that only the online model finds included."""
    with pytest.raises(ConfigError, match=f"ASR.Fun.{key}"):
        make_engine(EngineChoice(name="Fun", type="fun_server", options=options))


def test_tls_is_the_default_and_names_are_looked_up() -> None:
    """What costs threads is known before the worker starts."""
    engines = [
        make_engine(EngineChoice(name="Fun", type="fun_server", options=options))
        for options in ({}, {"host": "asr.local", "is_ssl": False})
    ]
    assert [engine.resolves_names for engine in engines] == [False, True]  # type: ignore[attr-defined]
    assert [engine._url for engine in engines] == ["wss://127.0.0.1:10095", "ws://asr.local:10095"]  # type: ignore[attr-defined]
