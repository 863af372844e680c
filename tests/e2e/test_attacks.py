"""What an attacker can try with a socket: each attack has a bound and a counter, and whoever talks meanwhile is heard.

The bystander's turns are judged, not timed. Half-open connections are in test_router_life.py, malformed messages and
what no worker can be sent in test_bad_input.py, hostile file names and bodies in tests/process/test_web_ota.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from tests.fakes.cluster import Cluster, metric
from tests.fakes.people import device, quiet, said
from tests.fakes.raw_device import HELLO, PATH, RawDevice, identity_of, raw_device, token_of, upgrade_headers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONFIG = """
selected_module: {ASR: Script, LLM: Script, TTS: Tone}
cluster: {asr: {recognisers: 8}}
ASR: {Script: {type: scripted}}
LLM: {Script: {type: scripted, reply: "You said {text}. Good day."}}
TTS: {Tone: {type: sine, ms_per_char: 15}}
"""
SENTENCE = "tell me about the weather"
HANDSHAKES = 200
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    said(SENTENCE)
    with Cluster(CONFIG) as running:
        yield running


bad_messages = partial(metric, program="router", name="xz_bad_messages_total")


async def reaches(count: Callable[[], Awaitable[float]], wanted: float) -> None:
    """A process tells its numbers only when it is asked."""
    async with asyncio.timeout(PATIENCE_S):
        while await count() < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def bystander(cluster: Cluster, number: int) -> AsyncIterator[None]:
    """Somebody who talks, turn after turn, while the attack goes on; each turn must be whole and their own."""
    over = asyncio.Event()
    began = asyncio.Event()
    async with device(cluster, number, mode="manual") as client:

        async def talk() -> None:
            while True:
                began.set()
                report = await client.ask(said(SENTENCE))
                assert client.session in report.stt and client.session in report.reply
                assert report.reply.endswith("Good day")
                assert report.counters.tts_starts == report.counters.tts_stops == 1
                assert report.counters.stale_frames == 0
                if over.is_set():
                    return

        talking = asyncio.create_task(talk(), name="bystander")
        await began.wait()
        try:
            yield
            over.set()
            await asyncio.wait_for(talking, PATIENCE_S)
        finally:
            talking.cancel()
            await asyncio.wait([talking])


async def flood(offender: RawDevice, messages: list[Any], per_s: int, until: Callable[[], bool]) -> None:
    """At this pace, in bursts of a 50th of a second, until it is so or the connection is gone."""
    at = 0
    while not (offender.is_gone or until()):
        for _ in range(max(1, per_s // 50)):
            offender.send(messages[at % len(messages)])
            at += 1
        await asyncio.sleep(0.02)


async def alive(device: RawDevice) -> None:
    """What was dropped has been paid for after a moment; then it is answered as ever."""
    seen = len(device.texts("pong"))
    async with asyncio.timeout(PATIENCE_S):
        while len(device.texts("pong")) <= seen:
            device.send({"type": "ping"})
            await asyncio.sleep(0.5)


# Before the upgrade


class Caller(asyncio.Protocol):
    """A TCP connection that only knows whether it is over, and what it was told."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.told = b""
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.told += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


async def call(port: int) -> Caller:
    _, caller = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
    return caller


def request_of(number: int) -> bytes:
    lines = [f"{name}: {value}" for name, value in upgrade_headers(identity_of(number), "x.1").items()]
    return "\r\n".join([f"GET {PATH} HTTP/1.1", *lines, "", ""]).encode()


HOSTILE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),
    "a header of a megabyte": f"GET {PATH} HTTP/1.1\r\nX: ".encode() + b"x" * 1_000_000,
    "ten thousand headers": f"GET {PATH} HTTP/1.1\r\n".encode() + b"X: y\r\n" * 10_000 + b"\r\n",
    "a path of a megabyte": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "no HTTP": b"\x00\xff" * 1000 + b"\r\n\r\n",
    "a body": f"POST {PATH} HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n".encode() + b"x" * 100_000,
}


async def test_requests_that_never_end_or_are_none(cluster: Cluster) -> None:
    """200 callers send a byte a second, 50 nothing, 60 something else: each is dropped at its deadline, and counted."""
    count = partial(metric, cluster, "router", "xz_handshakes_unfinished_total")
    before = await count()
    async with bystander(cluster, 1):
        slow = [await call(cluster.ports.ws) for _ in range(HANDSHAKES)]
        others = [await call(cluster.ports.ws) for _ in range(50 + 10 * len(HOSTILE))]
        for each, hostile in zip(others, [*HOSTILE.values()] * 10, strict=False):
            each.write(hostile)
        gone = asyncio.gather(*(each.gone.wait() for each in (*slow, *others)))
        request = request_of(900)
        async with asyncio.timeout(PATIENCE_S):
            for at in range(len(request)):
                for each in slow:
                    each.write(request[at : at + 1])
                if (await asyncio.wait([gone], timeout=1.0))[0]:
                    break
            await gone
    await reaches(count, before + len(slow) + len(others))
    assert not any(b" 101 " in each.told for each in (*slow, *others))


STRANGE_PATHS = ("//x[y/xiaozhi/v1/", "/xiaozhi/v1/?a=%ff%00&device-id=%", "*", "/xiaozhi/v1/?" + "&" * 2000)


async def test_a_request_that_is_not_what_it_should_be(cluster: Cluster) -> None:
    """A header that comes twice, a path that no parser likes: refused in words, and no fault of ours in the log."""
    count = partial(metric, cluster, "router", "xz_connection_rejects_total", reason="ambiguous")
    before = await count()
    headers = upgrade_headers(identity_of(902), "x.1")
    for name in ("Device-Id", "Authorization", "Upgrade", "Protocol-Version"):
        twice = headers | {name.lower(): headers[name]}
        assert (await RawDevice.connect(cluster, twice)).status == 400
    for path in STRANGE_PATHS:
        assert (await RawDevice.connect(cluster, headers, path=path)).status == 401
    assert await count() == before + 4
    assert "process_request failed" not in cluster.log("router-0")


async def test_a_device_that_reconnects_without_end(cluster: Cluster) -> None:
    """50 times a second: after a minute's worth of them it is told to wait."""
    identity = identity_of(903)
    token = await token_of(cluster, identity)
    count = partial(metric, cluster, "router", "xz_connection_rejects_total", reason="device_rate")
    before = await count()
    refused: list[str] = []
    async with bystander(cluster, 3):
        for _ in range(100):
            offender = await RawDevice.connect(cluster, upgrade_headers(identity, token))
            if offender.status == 429:
                refused.append(offender.head)
            offender.hang_up()
            await asyncio.sleep(0.02)
    assert refused and "Retry-After" in refused[0]
    await reaches(count, before + len(refused))


# Floods of a device that was let in


async def test_a_flood_of_sound(cluster: Cluster) -> None:
    """Ten times faster than anybody speaks: the ear's log has a limit, and what is over it is counted and dropped."""
    counts = [
        partial(metric, cluster, "router", name)
        for name in ("xz_uplink_dropped_total", "xz_asr_overloaded_total", "xz_utterances_failed_total")
    ]

    async def dropped() -> float:
        return sum([await count() for count in counts])

    before = await dropped()
    async with bystander(cluster, 4), raw_device(cluster, 904) as offender:
        offender.listen("start", mode="manual")
        sent = 0
        packets = (*said(SENTENCE).packets, *quiet())
        async with asyncio.timeout(PATIENCE_S):
            while await dropped() == before and sent < 6000:
                offender.send_all([packets[at % len(packets)] for at in range(sent, sent + 17)])
                sent += 17
                await asyncio.sleep(0.1)
        assert not offender.is_gone
    assert await dropped() > before


TEXTS: dict[str, list[Any]] = {
    "hello": [HELLO],
    "listen": [
        {"type": "listen", "state": "start", "mode": "auto"},
        {"type": "listen", "state": "stop"},
        {"type": "listen", "state": "start", "mode": "manual"},
    ],
    "abort": [{"type": "abort"}],
    "text input": [{"type": "listen", "state": "detect", "text": "hello"}],
    "answers nobody asked for": [
        {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": at, "result": {"content": "x" * 500}}} for at in range(50)
    ],
    "large messages": [{"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 1, "result": ["x" * 50] * 1000}}],
    "ping": [{"type": "ping"}],
}


async def test_floods_of_text(cluster: Cluster) -> None:
    """100 a second of each of seven devices, all of them right: those beyond an allowance are dropped."""
    count = partial(metric, cluster, "router", "xz_bad_messages_total", reason="text_rate")
    before = await count()
    ends = asyncio.get_running_loop().time() + 3.0

    async def offend(number: int, messages: list[Any]) -> None:
        async with raw_device(cluster, number) as offender:
            texts = [json.dumps(each) for each in messages]
            await flood(offender, texts, 100, lambda: asyncio.get_running_loop().time() > ends)
            assert not offender.is_gone
            await alive(offender)

    async with bystander(cluster, 5), asyncio.TaskGroup() as offenders:
        for number, messages in enumerate(TEXTS.values(), 920):
            offenders.create_task(offend(number, messages))
    assert await count() > before + 20


@pytest.mark.parametrize("message", ['{"type": "ping"}', b"\x58" + bytes(20)], ids=["text", "sound"])
async def test_more_than_any_device_could_mean(cluster: Cluster, message: str | bytes) -> None:
    """Thousands a second: the connection is closed with 1008 and counted."""
    count = partial(metric, cluster, "router", "xz_bad_messages_total", reason="flood")
    before = await count()
    async with bystander(cluster, 6), raw_device(cluster, 906) as offender:
        for _ in range(5000):
            offender.send(message)
        await offender.gone()
        assert offender.close_code == 1008
    assert await count() == before + 1


# Frames that are no messages


def raw_frame(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return bytes(Frame(opcode, payload, fin=fin).serialize(mask=True))


async def test_a_flood_of_pings(cluster: Cluster) -> None:
    """Each would have to be answered: closed with 1008."""
    count = partial(metric, cluster, "router", "xz_bad_messages_total", reason="flood")
    before = await count()
    async with bystander(cluster, 7), raw_device(cluster, 907) as offender:
        offender.write(raw_frame(Opcode.PING, b"x" * 100) * 5000)
        await offender.gone()
        assert offender.close_code == 1008
    assert await count() == before + 1


async def test_a_message_in_pieces_without_end(cluster: Cluster) -> None:
    """Empty pieces have no length that could add up: their number is bounded, and so is their total."""
    count = partial(metric, cluster, "router", "xz_ws_close_total", reason="protocol")
    before = await count()
    async with bystander(cluster, 8):
        for piece in (b"", b"x" * 2000):
            async with raw_device(cluster, 908) as offender:
                offender.write(raw_frame(Opcode.TEXT, piece, fin=False))
                for _ in range(100):
                    offender.write(raw_frame(Opcode.CONT, piece, fin=False))
                await offender.gone()
                assert offender.close_code == 1009
    await reaches(count, before + 2)


async def test_a_message_in_some_pieces_is_read(cluster: Cluster) -> None:
    """No known device sends one, but it would be right."""
    async with raw_device(cluster, 909) as device:
        device.write(raw_frame(Opcode.TEXT, b'{"type"', fin=False))
        for piece in (b": ", b'"pi', b'ng"'):
            device.write(raw_frame(Opcode.CONT, piece, fin=False))
        device.write(raw_frame(Opcode.CONT, b"}"))
        await device.until(lambda: bool(device.texts("pong")))


BROKEN = {
    "a ping of 200 bytes": (bytes([0x89, 0xFE, 0, 200]) + bytes(204), 1002),
    "a ping in pieces": (bytes([0x09, 0x81]) + bytes(5), 1002),
    "a reserved opcode": (bytes([0x83, 0x80]) + bytes(4), 1002),
    "reserved bits": (bytes([0xF1, 0x80]) + bytes(4), 1002),
    "a frame without a mask": (b"\x81\x02{}", 1002),
    "a piece of nothing": (raw_frame(Opcode.CONT, b"x"), 1002),
    "text that is no UTF-8": (raw_frame(Opcode.TEXT, b'{"type": "\xff\xfe"}'), 1007),
    "a frame of 2^62 bytes": (bytes([0x82, 0xFF, 0x40]) + bytes(7 + 4), 1009),
}


async def test_broken_frames(cluster: Cluster) -> None:
    """They end their own connection with the code that says why, and are counted."""
    count = partial(metric, cluster, "router", "xz_ws_close_total", reason="protocol")
    before = await count()
    async with bystander(cluster, 9):
        for data, code in BROKEN.values():
            async with raw_device(cluster, 910) as offender:
                offender.write(data)
                await offender.gone()
                assert offender.close_code == code, data[:20]
    await reaches(count, before + len(BROKEN))


# The web process


async def test_slow_callers_of_the_web_process(cluster: Cluster) -> None:
    """500 say nothing or half a request, 20 send a body slowly, one a large one; devices are enrolled meanwhile.

    The silent are dropped at their deadline, the slow are answered 408, the large one 413 at once.
    """
    lines = ("POST /xiaozhi/ota/ HTTP/1.1", "Host: x", "Device-Id: aa:bb:cc:dd:ee:ff", "Client-Id: c")
    head = "\r\n".join(lines).encode() + b"\r\nContent-Length: %d\r\n\r\n"
    refusals = partial(metric, cluster, "web", "xz_web_refusals_total")
    before = [await refusals(code=code) for code in ("408", "413")]
    async with bystander(cluster, 12):
        silent = [await call(cluster.ports.http) for _ in range(500)]
        for each in silent[::2]:
            each.write(b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: x\r\nDevice-")
        assert await token_of(cluster, identity_of(911))
        slow = [await call(cluster.ports.http) for _ in range(20)]
        for each in slow:
            each.write(head % 1000)
        large = await call(cluster.ports.http)
        large.write(head % 10_000_000 + b"x" * 100_000)
        async with asyncio.timeout(PATIENCE_S):
            while not all(b" 408 " in each.told for each in slow) or b" 413 " not in large.told:
                for each in slow:
                    each.write(b"x")
                await asyncio.sleep(0.5)
            await asyncio.gather(*(each.gone.wait() for each in silent))
    assert await refusals(code="408") >= before[0] + 20
    assert await refusals(code="413") >= before[1] + 1
