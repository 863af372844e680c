"""What a device's firmware needs of a server, stated fact by fact on a real cluster.

Every fact names its source in 78/xiaozhi-esp32 (`main/…`) or its socket library 78/esp-ml307, or the client it comes
from. Where many facts concern one conversation, it is held once, recorded, and looked at by many tests.
"""

from __future__ import annotations

import ast
import asyncio
import statistics
import struct
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import opuslib
import pytest

from ops.device import wire
from ops.device.opus import Pcm, decode
from ops.device.tools import DeviceTools
from router.wire import opus_ms
from shared.listening import Mode
from tests.fakes.cluster import Cluster, metric
from tests.fakes.people import quiet, said, voice
from tests.fakes.raw_device import (
    HELLO,
    MCP_HELLO,
    RawDevice,
    Received,
    identity_of,
    raw_device,
    token_of,
    upgrade_headers,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CONFIG = """
cluster: {asr: {recognisers: 16}}
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
ASR:
  ScriptedASR: {type: scripted}
LLM:
  ScriptedLLM: {type: scripted, reply: "You said {text}. That is all there is to say. Good day."}
TTS:
  SineTTS: {type: sine, ms_per_char: 15}
"""

SENTENCE = "tell me about the weather"
FRAME_S = 0.06
GATEWAY = struct.Struct(">BBHIII")
V2 = struct.Struct(">HHIII")

Framed = Callable[[bytes, int], bytes]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    utterance()
    with Cluster(CONFIG) as running:
        yield running


@cache
def utterance() -> tuple[bytes, ...]:
    """A sentence and the silence behind it."""
    return (*said(SENTENCE).packets, *quiet()[:12])


@cache
def sentence() -> Pcm:
    return voice().say(SENTENCE)


def encoded(frame_ms: int, encoder: opuslib.Encoder) -> list[bytes]:
    """The sentence in other frames than the firmware's, with silence behind it."""
    samples = 16 * frame_ms
    size = 2 * samples
    pcm = sentence().tobytes() + bytes(2 * 16_000)
    return [encoder.encode(pcm[at : at + size], samples) for at in range(0, len(pcm) - size + 1, size)]


def short_frames(frame_ms: int) -> list[bytes]:
    return encoded(frame_ms, opuslib.Encoder(16_000, 1, opuslib.APPLICATION_VOIP))


def large_frames() -> list[bytes]:
    """60 ms at 256 kbit/s: three frames of equal size in one packet (RFC 6716 §3.2.5)."""
    encoder = opuslib.Encoder(16_000, 1, opuslib.APPLICATION_RESTRICTED_LOWDELAY)
    encoder.bitrate, encoder.vbr = 256_000, 0
    parts = encoded(20, encoder)
    threes = [parts[at : at + 3] for at in range(0, len(parts) - 2, 3)]
    return [bytes([three[0][0] | 3, 3]) + b"".join(part[1:] for part in three) for three in threes]


def gateway_frame(packet: bytes, number: int) -> bytes:
    return GATEWAY.pack(1, 0, len(packet), number, 60 * number, len(packet)) + packet


def framed(protocol: wire.ProtocolVersion) -> Framed:
    return lambda packet, number: wire.pack_audio(protocol, packet, 60 * number)


PLAIN = framed(1)


async def say(device: RawDevice, mode: Mode, *, frame: Framed = PLAIN) -> None:
    device.listen("start", mode=mode)
    device.send_all(frame(packet, number) for number, packet in enumerate(utterance(), 1))
    if mode == "manual":
        device.listen("stop")


# One conversation of each kind, recorded


async def record(cluster: Cluster) -> dict[str, RawDevice]:
    """Six devices at the same time, each with one question."""
    kept: dict[str, RawDevice] = {}

    async def converse(number: int, name: str, mode: Mode, frame: Framed = PLAIN, **how: Any) -> None:
        tools = DeviceTools()

        def on_message(device: RawDevice, message: dict[str, Any]) -> None:
            answer = tools.answer(message.get("payload")) if message["type"] == "mcp" else None
            if answer is not None:
                device.send(wire.mcp(device.session, answer))

        async with raw_device(cluster, number, hello=MCP_HELLO, on_message=on_message, **how) as device:
            await say(device, mode, frame=frame)
            await device.turns_over()
            await device.until(lambda: len(device.texts("mcp")) >= 2)
            kept[name] = device

    await asyncio.gather(
        converse(1, "auto", "auto"),
        converse(2, "manual", "manual"),
        converse(3, "realtime", "realtime"),
        converse(4, "v2", "auto", framed(2), Protocol_Version="2"),
        converse(5, "v3", "auto", framed(3), Protocol_Version="3"),
        converse(6, "gateway", "auto", gateway_frame, path="/xiaozhi/v1/?from=mqtt_gateway"),
    )
    return kept


@pytest.fixture(scope="module")
def recorded(cluster: Cluster) -> dict[str, RawDevice]:
    return asyncio.run(record(cluster))


MODES: tuple[Mode, ...] = ("auto", "manual", "realtime")
EVERYBODY = (*MODES, "v2", "v3", "gateway")


@pytest.fixture(params=EVERYBODY)
def conversation(recorded: dict[str, RawDevice], request: pytest.FixtureRequest) -> RawDevice:
    return recorded[request.param]


def reply_of(device: RawDevice) -> list[str]:
    """The kinds of message from the transcript on, audio in one."""
    kinds: list[str] = []
    for one in device.received:
        kind = "audio" if isinstance(one.body, bytes) else _kind(one)
        if kind not in ("hello", "mcp") and (kind != "audio" or kinds[-1:] != ["audio"]):
            kinds.append(kind)
    return kinds


def _kind(one: Received) -> str:
    assert isinstance(one.body, dict)
    return str(one.body.get("state", one.body["type"]))


def test_order_of_a_turn(conversation: RawDevice) -> None:
    """`stt`, `tts start`, `llm`, then each sentence's text before its sound, `tts stop` (main/application.cc)."""
    assert reply_of(conversation) == ["stt", "start", "llm", *["sentence_start", "audio"] * 3, "stop"]


def test_what_is_said_is_shown(conversation: RawDevice) -> None:
    """Transcript and sentences arrive as text for the screen (main/application.cc)."""
    assert conversation.texts("stt")[0]["text"] == f"utterance 0 of {conversation.session}"
    shown = [message["text"] for message in conversation.texts("tts", "sentence_start")]
    assert shown[0].startswith(f"You said utterance 0 of {conversation.session}")
    assert shown[1].startswith("That is all") and shown[2].startswith("Good day")


def test_type_and_state_are_always_strings(conversation: RawDevice) -> None:
    """Releases before 2.4.0 call strcmp on both without a look: anything else crashes them (main/application.cc)."""
    for one in conversation.received:
        if isinstance(one.body, bytes):
            continue
        assert isinstance(one.body, dict) and isinstance(one.body["type"], str)
        if one.body["type"] == "tts":
            assert isinstance(one.body["state"], str)
        if one.body["type"] in ("stt", "llm") or one.body.get("state") == "sentence_start":
            assert isinstance(one.body["text"], str)


def test_neither_sentence_end_nor_goodbye_is_sent(conversation: RawDevice) -> None:
    """The first is ignored by every firmware, the second unknown over WebSocket (main/application.cc)."""
    assert not conversation.texts("tts", "sentence_end") and not conversation.texts("goodbye")


def test_messages_carry_the_session_of_the_hello(conversation: RawDevice) -> None:
    """Clients keep the id of any message (the Android client), so all name the same; MCP needs none."""
    for kind in ("stt", "tts", "llm"):
        assert {message["session_id"] for message in conversation.texts(kind)} == {conversation.session}


def test_hello_comes_before_any_mcp_message_and_once(conversation: RawDevice) -> None:
    """A device that reads something else first waits for its hello in vain (#3347 of xiaozhi-esp32-server)."""
    assert conversation.received[0].is_text("hello")
    assert len(conversation.texts("hello")) == 1


def test_mcp_requests_have_small_integer_ids(conversation: RawDevice) -> None:
    """A request with another id, or without "2.0" and an object as `params`, gets no answer (main/mcp_server.cc)."""
    payloads = [message["payload"] for message in conversation.texts("mcp")]
    assert [payload["method"] for payload in payloads][:2] == ["initialize", "tools/list"]
    for payload in payloads:
        assert type(payload["id"]) is int and 0 < payload["id"] < 2**31
        assert payload["jsonrpc"] == "2.0" and isinstance(payload.get("params", {}), dict)
    assert len({payload["id"] for payload in payloads}) == len(payloads)


def test_no_message_uses_a_reserved_bit(conversation: RawDevice) -> None:
    """The firmware does not look at them and would read a compressed frame as it is (esp-ml307, src/web_socket.cc)."""
    assert conversation.fault is None


def test_first_sound_waits_for_the_device_to_enter_speaking(recorded: dict[str, RawDevice]) -> None:
    """The main loop clears the decode queue a moment after `tts start`: 60 ms must pass (main/application.cc)."""
    gaps = [device.audio_times[0] - device.times("tts", "start")[0] for device in recorded.values()]
    # The times are those of this process, which may have slept over one `tts start`, not over most.
    assert statistics.median(gaps) >= FRAME_S


def test_lead_is_at_most_five_frames(conversation: RawDevice) -> None:
    """What the device holds is heard even after a barge-in, and 40 is all it holds (main/audio/audio_service.h)."""
    times = conversation.audio_times
    leads = [number - (at - times[0]) / FRAME_S for number, at in enumerate(times, 1)]
    assert len(times) > 20 and max(leads) <= 5.0, leads


def test_frames_are_60_ms_of_24_khz(recorded: dict[str, RawDevice]) -> None:
    """The decoder is opened with exactly what hello said; a longer packet is dropped (main/audio/audio_service.cc)."""
    packets = recorded["auto"].audio
    assert {opus_ms(packet) for packet in packets} == {60}
    assert len(decode(packets, FRAME_S)) == len(packets) * 1440


def test_tts_stop_comes_when_everything_has_been_played(conversation: RawDevice) -> None:
    """Releases 1.8 to 2.1 and the browser page throw the rest away at `tts stop` (main/application.cc)."""
    times = conversation.audio_times
    assert conversation.times("tts", "stop")[0] >= times[0] + FRAME_S * len(times)


def test_version_2_frames_have_their_header_and_a_growing_timestamp(recorded: dict[str, RawDevice]) -> None:
    """Version, type 0, time in ms, size, packet, big-endian; a wrong size crashes (main/protocols/protocol.h)."""
    messages = recorded["v2"].audio
    headers = [V2.unpack_from(message) for message in messages]
    assert {header[:3] for header in headers} == {(2, 0, 0)}
    assert [header[4] for header in headers] == [len(message) - V2.size for message in messages]
    stamps = [header[3] for header in headers]
    assert stamps[0] > 0 and stamps == sorted(set(stamps))


def test_version_3_frames_have_their_header(recorded: dict[str, RawDevice]) -> None:
    """Type 0, reserved 0, size of 16 bits, packet (main/protocols/protocol.h)."""
    for message in recorded["v3"].audio:
        kind, reserved, size = struct.unpack_from(">BBH", message)
        assert (kind, reserved, size) == (0, 0, len(message) - 4)
        assert opus_ms(message[4:]) == 60


def test_gateway_frames_have_sixteen_bytes_with_changing_timestamps(recorded: dict[str, RawDevice]) -> None:
    """The gateway makes an AES-CTR nonce of them: equal ones would use a key stream twice (main/protocols/
    mqtt_protocol.cc, and core/connection.py of xiaozhi-esp32-server)."""
    messages = recorded["gateway"].audio
    headers = [GATEWAY.unpack_from(message) for message in messages]
    sizes = [len(message) - GATEWAY.size for message in messages]
    assert [header[:3] for header in headers] == [(1, 0, size) for size in sizes]
    assert [header[5] for header in headers] == sizes
    for place in (3, 4):
        values = [header[place] for header in headers]
        assert values[0] > 0 and values == sorted(set(values))


# The handshake


async def test_reply_line_is_http_1_1_101(cluster: Cluster) -> None:
    """The device looks for just these letters, and its `Host` has no port (esp-ml307, src/web_socket.cc)."""
    async with raw_device(cluster, 20) as device:
        assert device.head.startswith("HTTP/1.1 101")


async def test_an_offered_extension_is_not_taken(cluster: Cluster) -> None:
    """Browsers and libraries offer compression; a proxy's client may be a device that cannot read it."""
    offer = "permessage-deflate; client_max_window_bits"
    async with raw_device(cluster, 21, Sec_WebSocket_Extensions=offer) as device:
        assert "sec-websocket-extensions" not in device.head.lower()
        device.listen("detect", text="hello there")
        await device.turns_over()


async def test_connection_header_may_name_more_than_upgrade(cluster: Cluster) -> None:
    """Proxies and some clients send `keep-alive, Upgrade`."""
    async with raw_device(cluster, 22, Connection="keep-alive, Upgrade") as device:
        assert device.texts("hello")


@pytest.mark.parametrize("path", ["/", "/xiaozhi/v1", "/anything/else?x=1"])
async def test_any_path_is_a_device(cluster: Cluster, path: str) -> None:
    """The URL is what an OTA answer once told the device, from whatever server (main/ota.cc)."""
    async with raw_device(cluster, 23, path=path) as device:
        assert device.texts("hello")


async def test_plain_get_is_answered_200(cluster: Cluster) -> None:
    """Load balancers and people look with an ordinary request."""
    device = await RawDevice.connect(cluster, {"Host": "localhost", "Connection": "close"}, path="/xiaozhi/v1/")
    assert device.status == 200
    await device.gone()
    assert device.body


async def test_identity_may_stand_in_the_query_string(cluster: Cluster) -> None:
    """A browser cannot set headers: the test page puts ids and token there."""
    identity = identity_of(24)
    token = await token_of(cluster, identity)
    headers = upgrade_headers(identity)
    for name in ("Device-Id", "Client-Id", "Protocol-Version"):
        del headers[name]
    query = (
        f"?device-id={quote(identity.device)}&client-id={identity.client_id}&authorization={quote(f'Bearer {token}')}"
    )
    device = await RawDevice.connect(cluster, headers, path=f"/xiaozhi/v1/{query}")
    assert device.status == 101, device.head
    device.send({"type": "hello"})
    await device.until(lambda: bool(device.texts("hello")))
    device.hang_up()


# hello


HELLOS: dict[str, dict[str, Any]] = {
    "the firmware's": MCP_HELLO,
    "the browser page's": {"type": "hello", "device_id": "x", "device_name": "page", "features": {"mcp": True}},
    "bare": {"type": "hello"},
    "other parameters": {**HELLO, "audio_params": {**HELLO["audio_params"], "frame_duration": 20, "channels": 2}},
    "parameters of wrong types": {**HELLO, "version": "1", "features": [], "audio_params": "opus"},
}


@pytest.mark.parametrize("hello", HELLOS.values(), ids=HELLOS)
async def test_hello_announces_what_is_sent(cluster: Cluster, hello: dict[str, Any]) -> None:
    """Without a string `transport` the device crashes; rate and duration set its decoder (websocket_protocol.cc)."""
    async with raw_device(cluster, 30, hello=hello) as device:
        answer = device.texts("hello")[0]
    assert answer["transport"] == "websocket"
    assert answer["audio_params"] == {"format": "opus", "sample_rate": 24_000, "channels": 1, "frame_duration": 60}
    assert isinstance(answer["session_id"], str) and answer["session_id"]


async def test_each_hello_is_answered_once_and_restarts_nothing(cluster: Cluster) -> None:
    """A reply more than asked for makes the device's next connection skip its wait (main/protocols/
    websocket_protocol.cc), so there are as many as hellos, with the same session, and no second MCP start."""
    async with raw_device(cluster, 31, hello=MCP_HELLO) as device:
        await device.until(lambda: bool(device.texts("mcp")))
        device.send(MCP_HELLO)
        await device.until(lambda: len(device.texts("hello")) == 2)
        device.listen("detect", text="hello there")
        await device.turns_over()
        assert len(device.texts("hello")) == 2 and len({one["session_id"] for one in device.texts("hello")}) == 1
        assert [one["payload"]["method"] for one in device.texts("mcp")] == ["initialize"]


async def test_text_before_hello_is_answered(cluster: Cluster) -> None:
    """Test pages send text as soon as the socket is open."""
    async with raw_device(cluster, 32, hello=None) as device:
        device.listen("detect", text="hello there")
        await device.turns_over()
        assert device.audio and not device.texts("hello")


# abort


State = Callable[[RawDevice], Awaitable[None]]


async def _idle(device: RawDevice) -> None:
    return


async def _armed(device: RawDevice) -> None:
    device.listen("start", mode="auto")
    device.send_all(quiet()[:5])


async def _hearing(device: RawDevice) -> None:
    device.listen("start", mode="auto")
    device.send_all(said(SENTENCE).packets)


async def _begun(device: RawDevice) -> None:
    device.listen("detect", text="tell me more")
    await device.until(lambda: bool(device.texts("tts", "start")))


async def _speaking(device: RawDevice) -> None:
    device.listen("detect", text="tell me more")
    await device.until(lambda: len(device.audio) > 5)


STATES: tuple[State, ...] = (_idle, _armed, _hearing, _begun, _speaking)


async def test_abort_is_answered_by_one_tts_stop(cluster: Cluster) -> None:
    """The device stays in Speaking until it gets one, and sound of the dead reply is heard (main/application.cc)."""

    async def abort_in(number: int, state: State) -> None:
        async with raw_device(cluster, number) as device:
            await state(device)
            device.send(wire.abort(device.session, "wake_word_detected"))
            await device.turns_over()
            device.listen("detect", text="hello there")
            await device.turns_over(2)
            stop = [one.is_text("tts", "stop") for one in device.received].index(True)
            after = [one for one in device.received[stop + 1 :] if not one.is_text("mcp")]
            assert after[0].body == {"type": "stt", "text": "hello there", "session_id": device.session}
            assert after[1].is_text("tts", "start") and len(device.texts("tts", "stop")) == 2

    await asyncio.gather(*(abort_in(number, state) for number, state in enumerate(STATES, 40)))


# What a device sends


async def test_session_id_is_never_needed(cluster: Cluster) -> None:
    """The firmware only echoes it; py-xiaozhi always sends an empty one, the page none (main/protocols/protocol.cc)."""

    async def converse(number: int, fields: dict[str, Any]) -> None:
        async with raw_device(cluster, number) as device:
            device.listen("start", mode="manual", **fields)
            device.send_all(utterance())
            device.listen("stop", **fields)
            await device.turns_over()
            assert device.texts("stt")[0]["text"] == f"utterance 0 of {device.session}"

    ids: list[dict[str, Any]] = [{}, *({"session_id": value} for value in ("", "of-another-life", 7, None))]
    await asyncio.gather(*(converse(number, fields) for number, fields in enumerate(ids, 46)))


async def test_start_right_after_detect_does_not_cancel_the_greeting(cluster: Cluster) -> None:
    """The firmware sends the two back to back (main/application.cc)."""
    async with raw_device(cluster, 56) as device:
        device.listen("detect", text="你好小智")
        device.listen("start", mode="auto")
        await device.turns_over()
        assert len(device.audio) > 1 and len(device.texts("tts", "start")) == len(device.texts("tts", "stop")) == 1
        assert device.times("tts", "stop")[0] >= device.audio_times[0] + FRAME_S * len(device.audio)


async def test_wake_word_audio_before_detect_is_no_utterance(cluster: Cluster) -> None:
    """Up to 33 frames of the wake word come in a burst before `detect` (main/application.cc)."""
    async with raw_device(cluster, 57) as device:
        device.send_all(utterance()[:33])
        device.listen("detect", text="你好小智")
        device.listen("start", mode="auto")
        device.send_all(quiet()[:20])
        await device.turns_over()
        device.send_all(utterance())
        await device.turns_over(2)
        texts = [message["text"] for message in device.texts("stt")]
        assert texts == ["你好小智", f"utterance 0 of {device.session}"]


async def test_listening_goes_on_after_tts_stop_without_a_start(cluster: Cluster) -> None:
    """The page never sends a second `start`, nor does the firmware in realtime (main/application.cc)."""

    async def converse(number: int, mode: Mode) -> None:
        async with raw_device(cluster, number) as device:
            await say(device, mode)
            await device.turns_over()
            device.send_all(utterance())
            await device.turns_over(2)
            texts = [message["text"] for message in device.texts("stt")]
            assert texts == [f"utterance {number} of {device.session}" for number in (0, 1)]

    await asyncio.gather(converse(58, "auto"), converse(59, "realtime"))


async def test_manual_mode_does_not_listen_after_tts_stop(cluster: Cluster) -> None:
    """The device stays in Idle, and what still arrives is nobody's speech (main/application.cc)."""
    async with raw_device(cluster, 54) as device:
        await say(device, "manual")
        await device.turns_over()
        device.send_all(utterance())
        device.listen("detect", text="hello there")
        await device.turns_over(2)
        assert [message["text"] for message in device.texts("stt")][1:] == ["hello there"]


async def test_dtx_packets_of_one_or_two_bytes_are_silence(cluster: Cluster) -> None:
    """The encoder has DTX on; such packets end an utterance and are no errors (main/audio/audio_service.h)."""
    bad = await metric(cluster, "asr", "xz_asr_bad_packets_total")
    silence = [packet for packet in quiet() if len(packet) <= 2][:20]
    assert len(silence) == 20
    async with raw_device(cluster, 55) as device:
        device.listen("start", mode="auto")
        device.send_all([*said(SENTENCE).packets, *silence])
        await device.turns_over()
        assert device.texts("stt")
    assert await metric(cluster, "asr", "xz_asr_bad_packets_total") == bad


async def test_large_and_short_frames_are_understood(cluster: Cluster) -> None:
    """py-xiaozhi sends 20 or 40 ms, the browser page about 1.9 KB per 60 ms."""
    kinds: dict[str, tuple[int, list[bytes]]] = {
        "20 ms": (20, short_frames(20)),
        "40 ms": (40, short_frames(40)),
        "1.9 KB": (60, large_frames()),
    }
    assert {opus_ms(packet) for packet in kinds["1.9 KB"][1]} == {60}
    assert min(map(len, kinds["1.9 KB"][1])) > 1900

    async def converse(number: int, frame_ms: int, packets: list[bytes]) -> None:
        hello = {**HELLO, "audio_params": {**HELLO["audio_params"], "frame_duration": frame_ms}}
        async with raw_device(cluster, number, hello=hello) as device:
            device.listen("start", mode="auto")
            device.send_all(packets)
            await device.turns_over()
            assert device.texts("stt")[0]["text"] == f"utterance 0 of {device.session}"

    await asyncio.gather(*(converse(60 + number, *kind) for number, kind in enumerate(kinds.values())))


async def test_pcm_is_understood_if_hello_says_so(cluster: Cluster) -> None:
    """Clients without an Opus encoder send s16le at the rate they name."""

    async def converse(number: int, rate: int) -> None:
        params = {"format": "pcm", "sample_rate": rate, "channels": 1, "frame_duration": 60}
        pcm = sentence()[:: 16_000 // rate].tobytes() + bytes(2 * rate)
        size = 2 * rate * 60 // 1000
        async with raw_device(cluster, number, hello={"type": "hello", "audio_params": params}) as device:
            device.listen("start", mode="auto")
            device.send_all(pcm[at : at + size] for at in range(0, len(pcm), size))
            await device.turns_over()
            assert device.texts("stt")[0]["text"] == f"utterance 0 of {device.session}"

    await asyncio.gather(converse(65, 16_000), converse(66, 8_000))


async def test_an_empty_binary_message_ends_the_utterance(cluster: Cluster) -> None:
    """The browser page's end of recording: no silence follows it and no `stop`."""
    speech = said(SENTENCE)

    async def converse(number: int, mode: Mode) -> None:
        async with raw_device(cluster, number) as device:
            device.listen("start", mode=mode)
            device.send_all([*speech.packets[: speech.voiced_packets], b""])
            await device.turns_over()
            assert device.texts("stt")[0]["text"] == f"utterance 0 of {device.session}"

    await asyncio.gather(*(converse(number, mode) for number, mode in enumerate(MODES, 80)))


async def test_text_ping_is_answered(cluster: Cluster) -> None:
    """For clients that cannot see WebSocket pongs (#2722 of xiaozhi-esp32-server)."""
    async with raw_device(cluster, 68) as device:
        device.send({"type": "ping"})
        await device.until(lambda: bool(device.texts("pong")))
        assert isinstance(device.texts("pong")[0]["timestamp"], str)


# The end


async def test_server_does_not_wait_for_the_devices_close_frame(cluster: Cluster) -> None:
    """The firmware answers no close: 1000 behind the last word, then the connection is cut (src/web_socket.cc)."""
    async with raw_device(cluster, 70, is_deaf=True) as device:
        device.listen("detect", text="exit")
        await device.turns_over()
        await device.gone()
        assert device.audio and device.close_code == 1000


async def test_a_dropped_connection_frees_everything(cluster: Cluster) -> None:
    """On hang-up the device just drops TCP, in whatever state (main/protocols/websocket_protocol.cc)."""
    for number, state in enumerate(STATES):
        async with raw_device(cluster, 71 + number) as device:
            await state(device)
    names = ("xz_connections", "xz_streams", "xz_streams_waiting", "xz_pool_active")
    async with asyncio.timeout(10):
        # The process tells its numbers only when it is asked.
        while any([await metric(cluster, "router", name) for name in names]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


# What concerns the OTA answer

OTA_FACTS = {
    "keys of 16 characters and more abort in nvs_set (main/ota.cc)": "test_stored_keys_are_at_most_15_characters",
    "a version with letters ends in std::stoi (main/ota.cc)": (
        "test_firmware_is_left_out_if_the_version_is_not_digits_and_dots"
    ),
    "a newer version without a file is a failing upgrade": "test_own_version_is_echoed_with_an_empty_url",
    "an mqtt object hides websocket (main/application.cc)": "test_there_is_no_mqtt_object_unless_configured",
    "websocket.version as a string is not stored (main/ota.cc)": "test_websocket_version_is_not_sent_as_a_string",
    "only public CAs are trusted (src/esp/esp_ssl.cc)": "test_url_is_unencrypted_and_on_the_called_host",
    "no chunks, no redirect, status 200 (src/http_client.cc)": "test_answer_has_a_length_and_is_no_redirect",
}


@pytest.mark.parametrize("test", OTA_FACTS.values(), ids=OTA_FACTS)
def test_facts_of_the_ota_answer_have_their_tests(test: str) -> None:
    """They concern the web process and are tested with it."""
    source = Path(__file__).parents[1] / "process" / "test_web_ota.py"
    functions = [node.name for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert test in functions
