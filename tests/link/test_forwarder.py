"""The forwarder of a trial between the ends of a link: it passes, repeats, loses, delays and cuts whole messages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.trial.forwarder import Forwarder, Treatment
from bench.trial.wire_book import WireBook
from shared.link.envelope import Kind
from shared.worker.runtime import WorkerRuntime
from tests.fakes.echo_service import EchoService
from tests.fakes.link_rig import BareRouter, LinkRig, until

pytestmark = pytest.mark.link

PATIENCE_S = 20.0


class Between:
    """A router, a worker, and the forwarder between them."""

    def __init__(self, rig: LinkRig, directory: Path) -> None:
        self.book = WireBook()
        self.service = EchoService()
        self.router: BareRouter = rig.bare_router()
        self.forwarder = Forwarder(directory / "via-tts", directory / "r0-tts", self.book, time.monotonic)
        self._rig, self._directory = rig, directory

    async def start(self) -> None:
        await self.forwarder.start()
        self.runtime: WorkerRuntime = self._rig.worker(self.service, routers=[f"ipc://{self._directory}/via-tts"])
        self.worker = await self.router.until_joined()

    async def echo(self, stream: int, packets: int) -> None:
        """Open, send packets, end."""
        self.router.open(self.worker, stream)
        for seq in range(1, packets + 1):
            self.router.say(self.worker, Kind.AUDIO, stream, seq, b"packet")
        self.router.say(self.worker, Kind.END, stream, packets + 1)


@pytest_asyncio.fixture
async def between(rig: LinkRig, tmp_path: Path) -> AsyncIterator[Between]:
    made = Between(rig, tmp_path)
    await made.start()
    yield made
    await made.forwarder.close()


async def test_everything_is_passed_on_and_booked(between: Between) -> None:
    """In order, and the book sees one end an OPEN."""
    await between.echo(1, 5)
    inbox = between.router.inboxes[between.worker]
    await inbox.until_has(Kind.DONE)
    assert [seq for _, seq, _ in inbox.of(Kind.AUDIO)] == [0, 1, 2, 3, 4]
    assert (between.book.opened, between.book.ended, between.book.open) == (1, 1, 0)
    assert between.book.complaints == []


async def test_a_repeated_message_fails_its_stream(between: Between) -> None:
    """`seq` counts each message once."""
    between.forwarder.treatment = Treatment(repeat_every=1)
    await between.echo(1, 2)
    await between.router.inboxes[between.worker].until_has(Kind.ERROR)
    assert between.forwarder.repeated > 0 and between.book.complaints == []


async def test_a_lost_message_fails_its_stream(between: Between) -> None:
    """Only data is lost: OPEN and END arrive."""
    between.forwarder.treatment = Treatment(lose_every=1)
    await between.echo(1, 3)
    await between.router.inboxes[between.worker].until_has(Kind.ERROR)
    assert between.forwarder.lost == 3 and between.service.jobs[0].frames == 0


async def test_a_cut_ends_both_sides(between: Between) -> None:
    """The streams of the connection are booked as lost, and the worker connects again."""
    between.router.open(between.worker, 1)
    await until(lambda: between.book.open, PATIENCE_S)
    between.forwarder.cut()
    await until(lambda: between.book.lost == 1, PATIENCE_S)
    beats = len(between.router.inboxes[between.worker].of(Kind.BEAT))
    await between.router.inboxes[between.worker].until_has(Kind.BEAT, beats + 1)


async def test_a_delayed_message_waits_and_so_do_those_behind_it(between: Between) -> None:
    """Order is kept."""
    between.forwarder.treatment = Treatment(delay_s=0.2)
    began_s = time.monotonic()
    await between.echo(1, 3)
    inbox = between.router.inboxes[between.worker]
    await inbox.until_has(Kind.DONE)
    assert time.monotonic() - began_s >= 0.4 and between.forwarder.delayed > 0
    assert [seq for _, seq, _ in inbox.of(Kind.AUDIO)] == [0, 1, 2]
