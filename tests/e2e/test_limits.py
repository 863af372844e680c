"""How often and how many may come, and what becomes of devices that never leave properly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache

import pytest

from ops.device.enrolment import Identity
from tests.fakes.cluster import Cluster, metric
from tests.fakes.people import quiet, said, until
from tests.fakes.raw_device import RawDevice, identity_of, raw_device, token_of, upgrade_headers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONFIG = """
server: {trusted_proxies: [127.0.0.2]}
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted}}
LLM: {ScriptedLLM: {type: scripted, reply: "You said {text}. Good day."}}
TTS: {SineTTS: {type: sine, ms_per_char: 15}}
cluster:
  device: {max_devices: 12, connects_per_minute: 30, address_connections: 3, address_connects_per_minute: 6}
"""


@cache
def sentence() -> tuple[bytes, ...]:
    return said("tell me about the weather").packets


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    sentence()
    with Cluster(CONFIG) as running:
        yield running


async def connected(cluster: Cluster, identity: Identity, **headers: str) -> RawDevice:
    token = await token_of(cluster, identity)
    return await RawDevice.connect(cluster, upgrade_headers(identity, token, **headers))


def header_of(device: RawDevice, name: str) -> str | None:
    lines = [line.partition(": ") for line in device.head.split("\r\n")[1:]]
    return next((value for key, _, value in lines if key.lower() == name.lower()), None)


async def nobody_left(cluster: Cluster) -> None:
    await until(lambda: cluster.metric("router", "xz_connections") == 0)


async def talk(cluster: Cluster, number: int) -> RawDevice:
    """One turn of a device, from its connection to `tts stop`."""
    async with raw_device(cluster, number) as device:
        device.listen("start", mode="manual")
        device.send_all(sentence())
        device.listen("stop")
        await device.turns_over()
        assert device.texts("stt")[0]["text"].endswith(f"of {device.session}") and device.audio
        return device


# Before the upgrade


async def test_a_full_router_refuses_with_503(cluster: Cluster) -> None:
    """Counted each time and logged once; whoever leaves makes room; a plain GET is still answered."""
    await nobody_left(cluster)
    guests = [await connected(cluster, identity_of(number)) for number in range(100, 112)]
    assert {guest.status for guest in guests} == {101}
    for _ in range(3):
        refused = await connected(cluster, identity_of(112))
        assert (refused.status, header_of(refused, "Retry-After")) == (503, "10")
    assert await metric(cluster, "router", "xz_connection_rejects_total", reason="router_full") == 3
    await until(lambda: "router_full" in cluster.log("router-0"))
    assert cluster.log("router-0").count("router_full") == 1
    looking = await RawDevice.connect(cluster, {"Host": "127.0.0.1"})
    assert looking.status == 200
    guests[0].hang_up()
    await until(lambda: cluster.metric("router", "xz_connections") == 11)
    welcome = await connected(cluster, identity_of(112))
    assert welcome.status == 101
    for guest in (*guests, welcome):
        guest.hang_up()
    await nobody_left(cluster)


async def test_a_device_that_reconnects_all_the_time_costs_nobody_else(cluster: Cluster) -> None:
    """Two hundred times as fast as it can: after its first 30 it is refused, and others talk as always."""
    identity = identity_of(120)
    token = await token_of(cluster, identity)
    statuses: list[int] = []

    async def hammer() -> None:
        for _ in range(200):
            device = await RawDevice.connect(cluster, upgrade_headers(identity, token))
            statuses.append(device.status)
            if device.status == 429:
                assert int(header_of(device, "Retry-After") or 0) >= 1
            device.hang_up()

    hammering = asyncio.create_task(hammer(), name="hammer")
    for turn in range(3):
        await talk(cluster, 121 + turn)
    await hammering
    # A token comes back every two seconds.
    assert set(statuses[:30]) == {101} and statuses.count(429) >= 50 and set(statuses) == {101, 429}
    assert await metric(cluster, "router", "xz_connection_rejects_total", reason="device_rate") == statuses.count(429)
    await nobody_left(cluster)


async def test_an_address_behind_a_trusted_proxy_is_limited(cluster: Cluster) -> None:
    """The forwarded address counts, other addresses do not suffer, and this machine itself is exempt."""
    tokens = {number: await token_of(cluster, identity_of(number)) for number in range(130, 150)}
    loop = asyncio.get_running_loop()

    async def via_proxy(number: int, address: str) -> RawDevice:
        headers = upgrade_headers(identity_of(number), tokens[number], X_Forwarded_For=f"9.9.9.9, {address}")
        device = RawDevice()
        await loop.create_connection(lambda: device, "127.0.0.1", cluster.ports.ws, local_addr=("127.0.0.2", 0))
        lines = ["GET /xiaozhi/v1/ HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        device.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        await device.until(lambda: bool(device.head) or device.is_gone)
        return device

    crowd = [await via_proxy(number, "198.51.100.7") for number in range(130, 134)]
    assert [device.status for device in crowd] == [101, 101, 101, 429]
    assert await metric(cluster, "router", "xz_connection_rejects_total", reason="address_connections") == 1
    others = [await via_proxy(134, "198.51.100.8"), await via_proxy(135, "203.0.113.1")]
    assert [device.status for device in others] == [101, 101]
    for device in (*crowd, *others):
        device.hang_up()
    await nobody_left(cluster)
    statuses = []
    for _ in range(20):
        device = await via_proxy(136, "198.51.100.7")
        statuses.append(device.status)
        device.hang_up()
        await nobody_left(cluster)
    assert statuses[0] == 101 and 429 in statuses
    assert await metric(cluster, "router", "xz_connection_rejects_total", reason="address_rate") == statuses.count(429)
    here = [await connected(cluster, identity_of(number)) for number in range(141, 149)]
    assert {device.status for device in here} == {101}
    for device in here:
        device.hang_up()
    await nobody_left(cluster)


async def test_calling_oneself_the_gateway_exempts_nobody(cluster: Cluster) -> None:
    """Anyone can put it into a query."""
    identity = identity_of(150)
    token = await token_of(cluster, identity)
    path = "/xiaozhi/v1/?from=mqtt_gateway"
    statuses = []
    for _ in range(40):
        device = await RawDevice.connect(cluster, upgrade_headers(identity, token), path=path)
        statuses.append(device.status)
        device.hang_up()
    assert 429 in statuses
    await nobody_left(cluster)


# Once inside


@pytest.mark.parametrize("message", ['{"type": "ping"}', bytes([0x18]) + bytes(20)], ids=["text", "audio"])
async def test_a_flood_ends_its_own_connection_only(cluster: Cluster, message: str | bytes) -> None:
    """More than a thousand messages a second: 1008, counted; another device talks meanwhile."""
    before = await metric(cluster, "router", "xz_bad_messages_total", reason="flood")
    number = 160 if isinstance(message, str) else 161

    async def flood() -> int | None:
        async with raw_device(cluster, number) as device:
            while device.close_code is None and not device.is_gone:
                for _ in range(100):
                    device.send(message)
                await asyncio.sleep(0.002)
            await device.gone()
            return device.close_code

    code, _ = await asyncio.gather(flood(), talk(cluster, number + 10))
    assert code == 1008
    assert await metric(cluster, "router", "xz_bad_messages_total", reason="flood") == before + 1
    await nobody_left(cluster)


async def test_a_device_that_falls_silent_in_a_word_is_answered(cluster: Cluster) -> None:
    """1.5 s without a packet in the middle of speech end the utterance; the connection lives."""
    async with raw_device(cluster, 180) as device:
        device.listen("start", mode="auto")
        device.send_all(sentence()[: len(sentence()) * 2 // 3])
        await device.turns_over()
        assert device.texts("stt") and device.audio and not device.is_gone
    await nobody_left(cluster)


async def test_a_device_that_never_stops_speaking_is_heard_in_pieces() -> None:
    """An utterance has a maximum: each ends by its length, the next begins, and nothing piles up."""
    pieces = "VAD: {SileroVAD: {type: silero, max_utterance_ms: 1500}}\ncluster: {mouth: {interruption: 'off'}}\n"
    scripted = CONFIG.replace("cluster:\n", "").replace("  device:", "#")
    with Cluster(scripted + pieces) as cluster:
        async with raw_device(cluster, 190) as device:
            device.listen("start", mode="realtime")
            for packet in sentence() * 8:
                device.send(packet)
                await asyncio.sleep(0.03)
            device.send_all(quiet()[:12])
            await device.turns_over()
            assert not device.is_gone
        by_length = 'xz_asr_utterances_total{reason="length"}'
        await until(lambda: cluster.metric("asr", by_length) >= 4)
        await until(lambda: cluster.metric("asr", "xz_asr_recognisers_busy") == 0)
        assert cluster.metric("router", "xz_asr_overloaded_total") == 0
        await nobody_left(cluster)
