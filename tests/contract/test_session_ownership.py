"""Who a device belongs to, over several session workers and one store: SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.ids import StreamId
from shared.link.messages import Adopt, Claimed, Committed, FromDevice, Input, OpenSession, TurnOver
from shared.settings import ClusterSettings, SessionSettings, Settings
from shared.store.model import Claim, StoredTurn
from shared.store.store import Store
from tests.fakes.session import FakeMcpDevice, FakeRouter
from tests.fakes.stores import StorePlace
from workers.session.service import SessionService

pytestmark = [pytest.mark.contract, pytest.mark.timeout(120)]

NOON_UTC = 1_795_521_600.0
DEVICE = "aa:bb"
JOKE = "tell me a joke"
AGAIN = "say that again"


@dataclass
class Workers:
    """Session services of several processes, as far as the store can tell."""

    place: StorePlace
    made: list[SessionService] = field(default_factory=list)
    streams: int = 0
    clock: float = NOON_UTC

    async def worker(self) -> SessionService:
        settings = Settings(
            session=SessionSettings(), cluster=ClusterSettings(data_dir=self.place.data_dir), store=self.place.settings
        )
        service = SessionService(settings, clock=lambda: self.clock)
        await service.start()
        self.made.append(service)
        return service

    def connect(
        self, service: SessionService, session: str, *, mcp: FakeMcpDevice | None = None, **more: Any
    ) -> Router:
        self.streams += 1
        router = Router(StreamId(self.streams), mcp)
        more.setdefault("life", self.streams)
        body = OpenSession(session, DEVICE, features={"mcp": True} if mcp else {}, **more)
        router.job = service.open(router, body.to_map())
        return router

    async def store(self, *, migrates: bool = False) -> Store:
        return await Store.open(self.place.settings, self.place.data_dir, migrates=migrates)

    async def stored(self) -> list[StoredTurn]:
        store = await self.store()
        try:
            return await store.dialogues.load(DEVICE, self.clock, 300.0, 100)
        finally:
            await store.close()

    async def claim(self) -> Claim:
        """Somebody else takes the device."""
        store = await self.store()
        try:
            return await store.ownership.claim(DEVICE, "somebody", self.clock)
        finally:
            await store.close()


class Router(FakeRouter):
    async def epoch(self) -> int:
        await self.until(lambda: self.of(Claimed))
        return int(self.of(Claimed)[-1].epoch)

    async def written(self, gen: int) -> None:
        await self.until(lambda: any(event.gen == gen for event in self.of(Committed)))

    async def told_turn(self, gen: int, text: str) -> str:
        """The worker has been told that it is over."""
        said = await self.turn(gen, text)
        await asyncio.sleep(0)
        return said

    async def whole_turn(self, gen: int, text: str) -> str:
        said = await self.turn(gen, text)
        await self.written(gen)
        return said

    async def ended(self) -> list[str]:
        await self.until(lambda: self.ends)
        return self.ends


@pytest.fixture
async def bare(place: StorePlace) -> AsyncIterator[Workers]:
    """A store without tables."""
    workers = Workers(place)
    yield workers
    for service in workers.made:
        await service.close()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("session-", "store-"))]
    assert left == []


@pytest.fixture
async def workers(bare: Workers) -> Workers:
    store = await bare.store(migrates=True)
    await store.close()
    return bare


def plain(said: str) -> str:
    return said.replace("|", " ")


async def test_a_dialogue_goes_on_with_another_worker(workers: Workers) -> None:
    """A device that comes back finds its dialogue, wherever it is placed; after the window it begins anew."""
    first = workers.connect(await workers.worker(), "s1")
    joke = await first.whole_turn(1, JOKE)
    first.end()
    assert await first.ended() == ["done"]
    second = workers.connect(await workers.worker(), "s2")
    await second.until(lambda: second.of(Claimed))
    assert plain(await second.whole_turn(1, AGAIN)) == plain(joke)
    second.end()
    await second.ended()
    workers.clock += 301
    third = workers.connect(await workers.worker(), "s3")
    assert await third.turn(1, AGAIN) == "I have not said anything yet."


async def test_a_newer_session_elsewhere_ends_the_older(workers: Workers) -> None:
    """The older worker sees the claim of another, though nobody tells it; what it has not written it never will."""
    older = workers.connect(await workers.worker(), "s1")
    await older.whole_turn(1, JOKE)
    newer = workers.connect(await workers.worker(), "s2")
    assert await newer.epoch() > await older.epoch()
    await newer.whole_turn(1, JOKE)
    assert await older.ended() == ["superseded"]
    assert [(turn.session, turn.gen) for turn in await workers.stored()] == [("s1", 1), ("s2", 1)]
    assert newer.ends == []


async def test_a_commit_under_an_old_epoch_is_refused(workers: Workers) -> None:
    """It changes nothing, and it is how a worker that was cut off learns that the device is not its own any more."""
    older = workers.connect(await workers.worker(), "s1")
    older.ask(1, JOKE)
    await older.reply(1)
    await older.epoch()
    await workers.claim()
    older.over(1, played=len(older.segments(1)))
    assert await older.ended() == ["superseded"]
    assert older.of(Committed) == [] and await workers.stored() == []


async def test_an_older_connection_that_lost_its_worker_takes_nothing_back(workers: Workers) -> None:
    """Elsewhere and on the newer one's own worker: it is refused, and the newer one is not disturbed."""
    older = workers.connect(await workers.worker(), "s1")
    epoch = await older.epoch()
    here = await workers.worker()
    newer = workers.connect(here, "s2")
    newest = await newer.epoch()
    elsewhere = workers.connect(await workers.worker(), "s1", epoch=epoch)
    assert await elsewhere.ended() == ["superseded"]
    with pytest.raises(Exception, match="newer connection"):
        workers.connect(here, "s1", epoch=epoch)
    assert await newer.whole_turn(1, JOKE)
    assert newer.ends == [] and await newer.epoch() == newest


async def test_the_same_connection_goes_on_with_another_worker(workers: Workers) -> None:
    """With its epoch it claims anew, is not refused, and its device need not tell its tools again."""
    device = FakeMcpDevice(volume=40)
    service = await workers.worker()
    first = workers.connect(service, "s1", mcp=device)
    epoch = await first.epoch()
    await first.whole_turn(1, "turn it up")
    await service.close()
    asked = len(device.requests)
    second = workers.connect(await workers.worker(), "s1", mcp=device, epoch=epoch)
    assert await second.epoch() > epoch
    assert await second.whole_turn(2, "turn it up") == "The volume is now sixty percent."
    assert [request["method"] for request in device.requests[asked:]] == ["tools/call", "tools/call"]
    ids = [request["id"] for request in device.requests]
    assert len(set(ids)) == len(ids), "a late answer to the first worker could answer the second"


async def test_old_things_are_known_to_the_next_worker(workers: Workers) -> None:
    """Old firmware describes them once, at the beginning of its connection."""
    service = await workers.worker()
    first = workers.connect(service, "s1")
    method = {"description": "", "parameters": {"volume": {"type": "number"}}}
    first.send(FromDevice({"type": "iot", "descriptors": [{"name": "Speaker", "methods": {"SetVolume": method}}]}))
    epoch = await first.epoch()
    await first.whole_turn(1, JOKE)
    first.end()
    await first.ended()
    second = workers.connect(await workers.worker(), "s1", epoch=epoch)
    assert await second.turn(2, "set volume to thirty percent") == "The volume is now thirty percent."


async def test_what_is_known_of_a_device_is_stored(workers: Workers) -> None:
    """Features, tools and profile are there for whoever claims it next."""
    router = workers.connect(await workers.worker(), "s1", mcp=FakeMcpDevice())
    await router.whole_turn(1, "turn it up")
    router.end()
    await router.ended()
    facts = (await workers.claim()).facts
    assert facts.features == {"mcp": True}
    assert facts.profile == {"name": "profile"}
    assert facts.tools is not None
    assert [tool["name"] for tool in facts.tools] == ["self.get_device_status", "self.audio_speaker.set_volume"]


async def test_who_spoke_last_is_stored_with_the_turn(workers: Workers) -> None:
    """By voiceprint; words whose speaker is not known leave it as it is."""
    router = workers.connect(await workers.worker(), "s1")
    for gen, speaker in enumerate(("张三", "李四", None), 1):
        router.send(Input(gen, JOKE, "asr", speaker=speaker))
        await router.reply(gen)
        router.over(gen)
        await router.until(lambda gen=gen: any(one.gen == gen for one in router.of(Committed)))
    router.end()
    await router.ended()
    assert (await workers.claim()).facts.speaker == "李四"


async def test_a_record_of_a_speaker_is_stored_with_its_speaker(workers: Workers) -> None:
    """A turn whose worker died is adopted as if it had been answered here."""
    router = workers.connect(await workers.worker(), "s1")
    asked = Input(4, "tell me", "asr", speaker="张三")
    router.send(Adopt(asked, TurnOver(4, "complete", "", 1), ["Yes."], is_complete=True))
    await router.until(lambda: router.of(Committed))
    router.end()
    await router.ended()
    assert (await workers.claim()).facts.speaker == "张三"


async def test_a_record_is_committed_once(workers: Workers) -> None:
    """It may come twice, and to a worker that finds the turn in the store; each time the router is told."""
    service = await workers.worker()
    router = workers.connect(service, "s1")
    over = TurnOver(4, "interrupted", "abort", 1, 0.7)
    record = Adopt(Input(4, "tell me", "asr"), over, ["One sentence.", "Two words here."], is_complete=True)
    for _ in range(2):
        router.send(record)
    await router.until(lambda: len(router.of(Committed)) == 2)
    assert await router.turn(5, AGAIN) == "One sentence.|Two words"
    router.end()
    await router.ended()
    other = workers.connect(await workers.worker(), "s1", epoch=await router.epoch())
    other.send(record)
    await other.written(4)
    assert [(turn.gen, [message.text for message in turn.messages]) for turn in await workers.stored()] == [
        (4, ["tell me", "One sentence. Two words"]),
        (5, [AGAIN, "One sentence. Two words"]),
    ]


async def test_talk_goes_on_without_a_store(bare: Workers) -> None:
    """No tables yet: turns are answered, and written when there are some; the next session had the dialogue anyway."""
    service = await bare.worker()
    router = bare.connect(service, "s1")
    joke = await router.turn(1, JOKE)
    router.end()
    assert await router.ended() == ["done"]
    second = bare.connect(service, "s2")
    assert plain(await second.turn(1, AGAIN)) == plain(joke)
    assert second.of(Claimed) == []
    store = await bare.store(migrates=True)
    await store.close()
    await second.written(1)
    assert [turn.session for turn in await bare.stored()] == ["s2"]
    assert plain(await second.turn(2, AGAIN)) == plain(joke)


async def test_closing_writes_what_waits(workers: Workers) -> None:
    """A worker that is told to go has its last turns in the store when it is gone."""
    service = await workers.worker()
    router = workers.connect(service, "s1")
    await router.told_turn(1, JOKE)
    await service.close()
    assert [turn.gen for turn in await workers.stored()] == [1]


async def test_a_session_of_the_same_worker_keeps_the_last_turn(workers: Workers) -> None:
    """The one before it writes first: its own claim would be worth nothing afterwards."""
    service = await workers.worker()
    first = workers.connect(service, "s1")
    joke = await first.told_turn(1, JOKE)
    second = workers.connect(service, "s2")
    assert plain(await second.whole_turn(1, AGAIN)) == plain(joke)
    assert await first.ended() == ["superseded"]
    assert [(turn.session, turn.gen) for turn in await workers.stored()] == [("s1", 1), ("s2", 1)]
