"""A session worker killed at every single message of a conversation: nothing is done twice, no turn is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from router import wire
from shared.settings import ClusterSettings, SessionSettings, Settings, StoreSettings
from shared.store.model import StoredTurn
from shared.store.store import Store
from tests.fakes.mortal import Theatre
from tests.fakes.session import FakeMcpDevice
from workers.session.service import SessionService

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

NOON_UTC = 1_795_521_600.0
CHANGE = "self.audio_speaker.set_volume"
MakeService = Callable[[], Awaitable[SessionService]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(StoreSettings(), tmp_path, migrates=True)
    yield store
    await store.close()


@pytest.fixture
def make_service(tmp_path: Path, store: Store) -> MakeService:
    async def make() -> SessionService:
        settings = Settings(session=SessionSettings(), cluster=ClusterSettings(data_dir=tmp_path))
        service = SessionService(settings, clock=lambda: NOON_UTC)
        await service.start()
        return service

    return make


async def converse(theatre: Theatre) -> None:
    """Hello, a turn that changes something in the world, one that asks for it again, goodbye."""
    world = theatre.world
    await theatre.start()
    world.say(wire.Hello(1, {"mcp": True}))
    await theatre.until(lambda: len(theatre.device.requests) >= 3 or theatre.has_died)
    for turn, text in enumerate(("turn it up", "say that again"), 1):
        world.say(wire.Detect(text))
        await theatre.until(lambda turn=turn: len(world.turns) == turn)
    world.do(world.conversation.closed(world.now))
    await theatre.until(lambda: not world.open)
    await theatre.close()


async def dialogue(store: Store) -> list[StoredTurn]:
    return await store.dialogues.load("dev-1", NOON_UTC, 300.0, 100)


def told(turn: StoredTurn) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in turn.messages]


UP = "The volume is now fifty percent."


async def test_without_a_death(make_service: MakeService, store: Store) -> None:
    """What the others are compared with: both turns in the store, as they were heard."""
    theatre = Theatre(make_service, FakeMcpDevice(volume=40))
    await converse(theatre)
    assert theatre.device.calls().count(CHANGE) == 1
    assert [told(turn) for turn in await dialogue(store)] == [
        [("user", "turn it up"), ("assistant", UP)],
        [("user", "say that again"), ("assistant", UP)],
    ]
    assert [turn["outcome"] for turn in theatre.world.turns] == ["complete", "complete"]


async def test_killed_at_every_message(make_service: MakeService, store: Store, tmp_path: Path) -> None:
    """No tool runs twice, every turn ends, and the store has every turn once, as far as it was heard."""
    kill_at, reached = 0, True
    while reached:
        kill_at += 1
        device = FakeMcpDevice(volume=40)
        theatre = Theatre(make_service, device, kill_at)
        await converse(theatre)
        check(theatre, await dialogue(store))
        reached = theatre.messages >= kill_at
        await forget(store)
    assert kill_at > 25


def check(theatre: Theatre, turns: list[StoredTurn]) -> None:
    world, where = theatre.world, f"killed at {theatre.kill_at}: {theatre.log}"
    assert theatre.device.calls().count(CHANGE) <= 1, where
    assert theatre.device.volume in (40, 50), where
    assert world.starts == world.stops == 2, where
    first, second = world.turns
    # Before the router was told of a change the turn is asked again; behind it, an apology is the honest answer.
    assert first["outcome"] == "complete" or "effects" in theatre.log, where
    assert second["outcome"] == "complete", where
    assert [(turn.session, turn.gen) for turn in turns] == [("s1", 1), ("s1", 2)], where
    answered = [("user", "turn it up"), ("assistant", UP)]
    assert told(turns[0]) == (answered if first["segments"] else answered[:1]), where
    assert told(turns[1])[0] == ("user", "say that again"), where
    if first["segments"]:
        assert told(turns[1])[1] == ("assistant", UP), where


async def forget(store: Store) -> None:
    async with store.database.writing() as connection:
        for table in ("messages", "devices"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")
