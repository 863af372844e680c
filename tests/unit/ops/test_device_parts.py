"""The small parts of the simulated device: framing, outbox, microphone, Opus, OTA answer, and turn times."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from ops.device import wire
from ops.device.effects import Counters
from ops.device.enrolment import DeviceError, Identity, enrol, simulated_mac
from ops.device.firmware import Firmware
from ops.device.microphone import Microphone
from ops.device.opus import Speech, decode, encode_speech, silence
from ops.device.outbox import Outbox
from ops.device.turn import TurnMeter
from shared.errors import DeviceProtocolError

pytestmark = pytest.mark.unit

IDENTITY = Identity("02:00:00:00:00:01")


@given(packet=st.binary(min_size=1, max_size=4000), version=st.sampled_from([1, 2, 3]))
def test_framing_round_trip(packet: bytes, version: wire.ProtocolVersion) -> None:
    """What is packed is unpacked, in every version."""
    assert wire.unpack_audio(version, wire.pack_audio(version, packet, 7)) == packet


@pytest.mark.parametrize("version", [2, 3])
def test_header_that_lies_is_refused(version: wire.ProtocolVersion) -> None:
    """The firmware would read past the buffer."""
    framed = wire.pack_audio(version, b"12345")
    for broken in (framed[:-1], framed[:2]):
        with pytest.raises(DeviceProtocolError):
            wire.unpack_audio(version, broken)


@pytest.mark.parametrize("text", ["{", "[]", '{"type":1}', "{}"])
def test_unreadable_json_is_refused(text: str) -> None:
    """A device needs an object with a string `type`."""
    with pytest.raises(DeviceProtocolError):
        wire.parse(text)


@given(items=st.lists(st.one_of(st.binary(min_size=1, max_size=3), st.text(max_size=3)), max_size=120))
def test_outbox_keeps_all_text_and_the_newest_frames(items: list[bytes | str]) -> None:
    """At most 40 frames wait, the oldest go; text and order stay."""
    outbox = Outbox()
    for item in items:
        if isinstance(item, bytes):
            outbox.put_audio(item)
        else:
            outbox.put_text(item)
    left = [outbox.take() for _ in range(len(outbox))]
    frames = [item for item in items if isinstance(item, bytes)]
    assert [item for item in left if isinstance(item, str)] == [item for item in items if isinstance(item, str)]
    assert [item for item in left if isinstance(item, bytes)] == frames[-40:]
    assert outbox.dropped_frames == max(0, len(frames) - 40)


def test_microphone_hears_speech_then_silence() -> None:
    """Voiced packets, the quiet rest of the speech, then the room over and over."""
    microphone = Microphone([b"q", b"r"])
    microphone.hear(Speech((b"1", b"2", b"3"), voiced_packets=2))
    heard = [microphone.next() for _ in range(5)]
    assert [item.packet for item in heard] == [b"1", b"2", b"3", b"r", b"q"]
    assert [item.is_voiced for item in heard] == [True, True, False, False, False]
    assert [item.is_last for item in heard] == [False, False, True, False, False]
    assert microphone.is_quiet


def test_silence_is_dtx() -> None:
    """Most packets of a quiet room have one or two bytes."""
    sizes = [len(packet) for packet in silence()]
    assert sum(size <= 2 for size in sizes) > len(sizes) * 0.7


def test_speech_ends_with_its_last_loud_frame() -> None:
    """The zero point of auto mode: quiet frames behind the speech do not count."""
    tone = (np.sin(np.arange(960 * 10) / 5) * 9000).astype(np.int16)
    speech = encode_speech(np.concatenate([tone, np.zeros(960 * 5, np.int16)]))
    assert len(speech.packets) == 15
    assert speech.voiced_packets == 10


def test_broken_packet_is_skipped() -> None:
    """The rest is decoded."""
    packets = list(encode_speech(np.zeros(960 * 3, np.int16)).packets)
    assert len(decode([packets[0], b"\xff\xff\xff", packets[1]], 0.06)) == 2 * 1440


def test_mac_is_stable_and_local() -> None:
    """The same seed and number give the same locally administered address."""
    first = simulated_mac("seed", 1)
    assert first == simulated_mac("seed", 1) != simulated_mac("seed", 2)
    assert first.startswith("02:") and len(first) == 17


async def ota(status: int, body: Any) -> Any:
    """What `enrol` makes of this answer."""
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body))

    app = web.Application()
    app.router.add_post("/xiaozhi/ota/", answer)
    async with TestServer(app) as server, ClientSession() as http:
        place = await enrol(http, str(server.make_url("/xiaozhi/ota/")), IDENTITY)
    assert seen[0]["Device-Id"] == IDENTITY.device
    assert seen[0]["Client-Id"] == IDENTITY.client_id
    return place


async def test_ota_answer_gives_address_and_token() -> None:
    """The token never shows in a repr."""
    place = await ota(200, {"websocket": {"url": "ws://host/x", "token": "secret"}})
    assert (place.url, place.token) == ("ws://host/x", "secret")
    assert "secret" not in repr(place)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (204, "", "ota_status"),
        (200, "<html>", "ota_format"),
        (200, [], "ota_format"),
        (200, {}, "ota_no_websocket"),
        (200, {"activation": {"code": "123456"}}, "ota_no_websocket"),
        (200, {"websocket": {"url": "ws://h", "a_key_that_is_too_long": 1}}, "ota_harmful"),
        (200, {"websocket": {"url": "ws://h"}, "firmware": {"version": "v1.2", "url": ""}}, "ota_harmful"),
    ],
)
async def test_ota_answer_that_leads_nowhere_or_harms(status: int, body: Any, code: str) -> None:
    """What a device cannot use, or would reboot over for ever, is refused."""
    with pytest.raises(DeviceError) as caught:
        await ota(status, body)
    assert caught.value.code == code


def test_zero_point_is_the_last_call() -> None:
    """In auto mode every frame with speech moves it."""
    meter = TurnMeter(1, Counters())
    meter.on_done_speaking(1.0)
    meter.on_done_speaking(2.0)
    meter.on_stt("hi", 2.1)
    assert meter.report("s", Firmware("auto")).stt_ms == pytest.approx(100)


def test_frames_and_stop_of_an_older_reply_are_not_this_turn() -> None:
    """Without a `tts start` of its own, sound is no first audio and a `tts stop` no end."""
    meter = TurnMeter(2, Counters())
    meter.on_done_speaking(1.0)
    assert not meter.on_audio(1.1)
    meter.on_tts_stop(1.2)
    assert not meter.is_stopped
    meter.on_tts_start(1.3)
    assert meter.on_audio(1.4)
    assert not meter.on_audio(1.46)
    meter.on_tts_stop(2.0)
    assert meter.is_stopped
    report = meter.report("s", Firmware("auto"))
    assert (report.first_audio_ms, report.tts_stop_ms) == (400.0, 1000.0)
