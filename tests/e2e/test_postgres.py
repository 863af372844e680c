"""The whole cluster on PostgreSQL: what was said is stored, survives every process, and can be forgotten."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from shared.settings import StoreSettings
from shared.store.model import StoredTurn
from shared.store.store import Store
from tests.e2e.test_scripted import CONFIG, QUESTION
from tests.fakes.cluster import ROOT, Cluster, off_loop
from tests.fakes.people import device, said
from tests.fakes.postgres import NO_POSTGRES, PostgresServer, postgres_programs, postgres_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

FOREVER_S = 1e12
LONG_S = 60.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    if postgres_programs() is None:
        pytest.skip(NO_POSTGRES)
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(postgres: PostgresServer) -> Iterator[Cluster]:
    with Cluster(CONFIG, environment={"XZ_STORE_URL": postgres.url()}) as running:
        yield running


async def stored(cluster: Cluster, postgres: PostgresServer, name: str, turns: int) -> list[StoredTurn]:
    """What is stored of the device, as soon as it is so many turns."""
    store = await Store.open(StoreSettings(url=postgres.url()), cluster.data_dir)
    try:
        async with asyncio.timeout(LONG_S):
            while True:
                found = await store.dialogues.load(name, time.time(), FOREVER_S, 1000)
                if len(found) >= turns:
                    return found
                await asyncio.sleep(0.05)
    finally:
        await store.close()


async def test_turns_are_stored_and_can_be_forgotten(cluster: Cluster, postgres: PostgresServer) -> None:
    """The words that were heard and said, by device; the command removes them while the cluster runs."""
    async with device(cluster, 1) as client:
        for _ in range(2):
            report = await client.ask(said(QUESTION))
        turns = await stored(cluster, postgres, client.options.identity.device, 2)
        assert [message.role for message in turns[-1].messages] == ["user", "assistant"]
        assert turns[-1].messages[0].text == report.stt
        name = client.options.identity.device
    forgotten = await off_loop(forget, cluster, name)
    assert forgotten.returncode == 0, forgotten.stderr
    assert f"removed {len(turns)} turns" in forgotten.stdout
    assert await stored(cluster, postgres, name, 0) == []


def forget(cluster: Cluster, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops", "devices", "forget", name]
    return subprocess.run(command, env=cluster.environ, cwd=ROOT, capture_output=True, text=True, check=False)


async def test_talk_goes_on_while_the_server_is_away_and_is_stored_when_it_is_back(
    cluster: Cluster, postgres: PostgresServer
) -> None:
    """Nobody hears of it."""
    async with device(cluster, 2) as client:
        await client.ask(said(QUESTION))
        await stored(cluster, postgres, client.options.identity.device, 1)
        postgres.stop()
        try:
            report = await client.ask(said(QUESTION))
            assert client.session in report.reply
        finally:
            postgres.start()
        turns = await stored(cluster, postgres, client.options.identity.device, 2)
        assert turns[-1].messages[0].text == report.stt
