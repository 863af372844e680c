"""`python -m bench.upstreams`, as an operator starts it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from tests.fakes.remote_voice import remote, said

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.upstreams", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def printed(process: asyncio.subprocess.Process) -> str:
    """Up to the empty line behind the configuration."""
    assert process.stdout is not None
    text = ""
    while line := (await process.stdout.readline()).decode():
        if line == "\n":
            break
        text += line
    return text


async def test_what_it_prints_is_a_configuration_that_leads_there() -> None:
    """Its sections are used as they stand, and Ctrl-C ends it well."""
    async with command("edge", "openai", "--fault", "edge:error@start*1", "--latency-ms", "5") as process:
        document = yaml.safe_load(await printed(process))
        assert set(document) == {"ASR", "TTS", "LLM"}
        for section in ("EdgeTTS", "OpenAITTS"):
            engine = remote(document["TTS"][section])
            try:
                assert await said(engine, "Hello.")
            finally:
                await engine.close()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        assert process.stderr is not None
        assert await process.stderr.read() == b""


@pytest.mark.parametrize(
    ("arguments", "word"), [(("nobody",), "nobody"), (("edge", "--fault", "edge:wrong@start"), "edge:wrong@start")]
)
async def test_a_wrong_word_is_named(arguments: tuple[str, ...], word: str) -> None:
    """And nothing is started."""
    async with command(*arguments) as process:
        out, error = await process.communicate()
        assert process.returncode == 2
        assert word in error.decode()
        assert out == b""
