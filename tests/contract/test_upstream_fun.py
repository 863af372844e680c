"""FunASR's WebSocket servers: three of them, that agree on the sound and differ in how they say that they are done.

What they share with other recognisers is in test_upstream_asr_streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bench.upstreams.fun_asr import FunAsr, Server
from shared.errors import ConfigError
from shared.marks import Mark
from shared.settings import EngineChoice
from shared.upstream.faults import Code, UpstreamError
from tests.fakes.remote_asr import LONG, PATIENCE_S, Ear, engine_of, marked, quiet, recogniser_of, text_of, with_fault
from workers.asr.engines.registry import make_engine

pytestmark = pytest.mark.contract

ONLINE = pytest.mark.parametrize("server", ["cpp", "python"])


async def until_seen(ear: Ear, is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            ear.changed.clear()
            await ear.changed.wait()


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
