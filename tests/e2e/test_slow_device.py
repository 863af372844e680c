"""A device that stops reading: a real socket with small buffers from which nobody reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.cluster import Cluster, metric
from tests.fakes.people import until
from tests.fakes.raw_device import HELLO, PATH, RawDevice, identity_of, token_of, upgrade_headers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONFIG = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted}}
LLM:
  ScriptedLLM: {type: scripted, reply: "Once upon a time there was somebody who told a story that had no end."}
TTS: {SineTTS: {type: sine, ms_per_char: 75}}
cluster: {device: {close_timeout_s: 20}}
"""
RECEIVE_BUFFER_BYTES = 4096
NOISE = "?" * 65_000
"""No JSON: such text comes back as it is, and is more than all buffers between the router and the device."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(CONFIG) as running:
        yield running


class Reader(RawDevice):
    """One that can stop reading."""

    def stop_reading(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def read_on(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()


@asynccontextmanager
async def reader(cluster: Cluster, number: int) -> AsyncIterator[Reader]:
    """Its kernel takes only a few kilobytes for it."""
    token = await token_of(cluster, identity_of(number))
    loop = asyncio.get_running_loop()
    end = socket.socket()
    end.setblocking(False)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    await loop.sock_connect(end, ("127.0.0.1", cluster.ports.ws))
    device = Reader()
    await loop.create_connection(lambda: device, sock=end)
    headers = upgrade_headers(identity_of(number), token)
    lines = [f"GET {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    device.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    await device.until(lambda: bool(device.head))
    try:
        device.send(HELLO)
        await device.until(lambda: bool(device.texts("hello")))
        yield device
        assert device.fault is None, device.fault
    finally:
        device.hang_up()


async def tell(device: Reader) -> None:
    """The story has begun."""
    device.listen("detect", text="tell me a story")
    await device.until(lambda: len(device.audio) > 5)


async def block(cluster: Cluster, device: Reader) -> None:
    """It reads nothing, and the router has noticed."""
    before = await metric(cluster, "router", "xz_ws_slow_device_total")
    device.stop_reading()
    device.send(NOISE)
    await until(lambda: cluster.metric("router", "xz_ws_slow_device_total") > before)


async def hear(cluster: Cluster, number: int) -> list[bytes]:
    """The whole story, as a device has it that reads all the time."""
    async with reader(cluster, number) as device:
        await tell(device)
        await device.turns_over()
        return device.audio


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> list[bytes]:
    frames = asyncio.run(hear(cluster, 1))
    assert len(frames) > 70, "no pause of 2.7 s fits into it"
    return frames


async def test_a_pause_in_reading_loses_no_frame(cluster: Cluster, story: list[bytes]) -> None:
    """Just under 3 s: what the kernel takes it keeps, and the reply is the same to the last frame."""
    async with reader(cluster, 2) as device:
        await tell(device)
        device.stop_reading()
        await asyncio.sleep(2.7)
        device.read_on()
        await device.turns_over()
        assert device.audio == story


async def test_a_full_socket_holds_the_reply_and_loses_no_frame(cluster: Cluster, story: list[bytes]) -> None:
    """With no room left anywhere frames wait for the device, and go on when it reads again."""
    async with reader(cluster, 3) as device:
        await tell(device)
        await block(cluster, device)
        sent = await metric(cluster, "router", 'xz_ws_frames_total{direction="out"}')
        await asyncio.sleep(1.0)
        assert await metric(cluster, "router", 'xz_ws_frames_total{direction="out"}') == sent
        device.read_on()
        await device.turns_over()
        assert device.audio == story
        assert [one.body for one in device.received if isinstance(one.body, str)] == [NOISE]


async def test_an_abort_holds_although_nothing_is_read(cluster: Cluster) -> None:
    """`tts stop` is the next thing in the pipe; no frame of the reply comes behind it, and the device talks on."""
    async with reader(cluster, 4) as device:
        await tell(device)
        await block(cluster, device)
        await asyncio.sleep(0.5)
        before = await metric(cluster, "router", "xz_generation_bumps_total")
        device.send({"type": "abort"})
        await until(lambda: cluster.metric("router", "xz_generation_bumps_total") > before)
        device.read_on()
        await device.turns_over()
        heard = len(device.audio)
        stop_at = next(n for n, one in enumerate(device.received) if one.is_text("tts", "stop"))
        assert not any(isinstance(one.body, bytes) for one in device.received[stop_at:])
        device.send({"type": "ping"})
        await device.until(lambda: bool(device.texts("pong")))
        assert len(device.audio) == heard
        await tell(device)


async def test_an_abort_holds_in_a_pause(cluster: Cluster) -> None:
    """The kernel had taken what was due meanwhile; behind `tts stop` there is nothing more of it."""
    async with reader(cluster, 5) as device:
        await tell(device)
        device.stop_reading()
        await asyncio.sleep(2.0)
        device.send({"type": "abort"})
        device.read_on()
        await device.turns_over()
        device.send({"type": "ping"})
        await device.until(lambda: bool(device.texts("pong")))
        stop_at = next(n for n, one in enumerate(device.received) if one.is_text("tts", "stop"))
        assert not any(isinstance(one.body, bytes) for one in device.received[stop_at:])


async def test_a_device_that_never_reads_is_closed_with_1013(cluster: Cluster) -> None:
    """3 s without a byte taken; what it finds when it looks at last is the whole pipe and the close behind it."""
    before = await metric(cluster, "router", 'xz_ws_close_total{reason="slow_device"}')
    async with reader(cluster, 6) as device:
        await tell(device)
        await block(cluster, device)
        await asyncio.sleep(6.0)
        device.read_on()
        await device.gone()
        assert device.close_code == 1013
    await until(lambda: cluster.metric("router", 'xz_ws_close_total{reason="slow_device"}') == before + 1)


async def test_a_device_that_is_gone_for_good_is_cut_off() -> None:
    """It reads nothing, not even the close: the connection is dropped and everything it had is free."""
    with Cluster(CONFIG.replace("close_timeout_s: 20", "close_timeout_s: 1")) as cluster:
        async with reader(cluster, 7) as device:
            await tell(device)
            await block(cluster, device)
            await until(lambda: cluster.metric("router", "xz_connections") == 0, 30.0)
            await until(lambda: cluster.metric("router", "xz_streams") == 0)
        assert cluster.metric("router", 'xz_ws_close_total{reason="slow_device"}') == 1
