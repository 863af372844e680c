"""The simulated device on a real WebSocket against a scripted server: it holds turns, and it notices each fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from ops.device.client import Device, DeviceOptions
from ops.device.enrolment import DeviceError, Identity
from ops.device.firmware import State
from ops.device.news import Kind, News
from ops.device.opus import SPEAKER_RATE, Speech, decode, encode_speech, silence
from ops.device.wire import ProtocolVersion
from shared.listening import Mode
from tests.fakes.voice_server import HELLO, SPEECH_BYTES, Script, VoiceServer, voice_server

pytestmark = pytest.mark.link

IDENTITY = Identity("02:00:00:00:00:01", "client-1")
SILENCE = silence()


def loud_speech(frames: int = 6) -> Speech:
    """Half a second of noise, which Opus cannot make small, with a quiet tail."""
    noise = np.random.default_rng(1).normal(0, 6000, frames * 960)
    return encode_speech(np.concatenate([noise, np.zeros(960)]).astype(np.int16))


SPEECH = loud_speech()


@asynccontextmanager
async def talking(
    script: Script | None = None, mode: Mode = "auto", token: str = "", **options: Any
) -> AsyncIterator[tuple[Device, VoiceServer, list[News]]]:
    news: list[News] = []
    device = Device(DeviceOptions(IDENTITY, mode, **options), SILENCE, observer=news.append)
    async with voice_server(script) as server, device:
        await device.open(server.url, token)
        yield device, server, news


def listens(server: VoiceServer) -> list[str]:
    return [message["state"] for message in server.messages("listen")]


@pytest.mark.parametrize("mode", ["auto", "manual", "realtime"])
async def test_turn_in_every_mode(mode: Mode) -> None:
    """Speech goes up, transcript, sentences and sound come down, nothing is lost or left over."""
    async with talking(mode=mode) as (device, _, _):
        report = await device.ask(SPEECH)
    assert report.stt == "what time is it"
    assert report.reply == "It is noon. Time to eat."
    assert report.emotion == "happy"
    counters = report.counters
    assert (counters.frames, counters.played_frames) == (12, 12)
    assert (counters.overflow_frames, counters.outside_frames, counters.stale_frames) == (0, 0, 0)
    assert (counters.tts_starts, counters.tts_stops) == (1, 1)
    assert report.heard_s == pytest.approx(0.72)
    assert report.stt_ms is not None and report.first_audio_ms is not None
    assert 0 < report.stt_ms < report.first_audio_ms
    assert not device.faults


async def test_manual_sends_start_speech_stop() -> None:
    """Every packet of the speech goes up between `start` and `stop`, and none after."""
    async with talking(mode="manual") as (device, server, _):
        await device.ask(SPEECH)
        await device.ask(SPEECH)
    assert listens(server) == ["start", "stop", "start", "stop"]
    sizes = [item for item in server.received if isinstance(item, int)]
    assert sizes == [len(packet) for packet in SPEECH.packets] * 2


async def test_auto_listens_again_and_sends_silence() -> None:
    """After the answer comes `listen start`; the quiet room is sent in DTX packets."""
    async with talking() as (device, server, _):
        await device.ask(SPEECH)
        await device.ask(SPEECH)
    assert listens(server) == ["start", "start", "start"]
    small = [item for item in server.received if isinstance(item, int) and item < SPEECH_BYTES]
    assert any(size <= 2 for size in small)


async def test_realtime_sends_one_start_only() -> None:
    """The microphone runs on; `start` is sent once."""
    async with talking(mode="realtime") as (device, server, _):
        await device.ask(SPEECH)
        await device.ask(SPEECH)
    assert listens(server) == ["start"]


@pytest.mark.parametrize("protocol", [1, 2, 3])
async def test_every_binary_protocol(protocol: ProtocolVersion) -> None:
    """Header and hello announce the version, and the frames are framed accordingly."""
    async with talking(protocol=protocol) as (device, server, _):
        report = await device.ask(SPEECH)
    assert report.counters.played_frames == 12
    assert server.headers[0]["Protocol-Version"] == str(protocol)
    assert server.messages("hello")[0]["version"] == protocol


async def test_request_looks_like_a_device() -> None:
    """Identity in headers, `Host` without a port, no extensions, no user agent."""
    async with talking(Script(token="secret"), token="secret") as (_, server, _):
        headers = server.headers[0]
    assert headers["Device-Id"] == "02:00:00:00:00:01"
    assert headers["Client-Id"] == "client-1"
    assert headers["Host"] == "127.0.0.1"
    assert "Sec-WebSocket-Extensions" not in headers
    assert "User-Agent" not in headers


async def test_typed_text_from_idle_is_detect_and_start() -> None:
    """`detect` is followed at once by `start`."""
    async with talking() as (device, server, _):
        report = await device.ask_text("tell a joke")
    assert report.stt == "tell a joke"
    assert listens(server)[:2] == ["detect", "start"]


async def test_news_come_in_order() -> None:
    """The observer sees each stage as it happens."""
    async with talking(mode="manual") as (device, _, news):
        await device.ask(SPEECH)
    kinds = [item.kind for item in news]
    expected = [
        Kind.OPENED,
        Kind.LISTENING,
        Kind.DONE_SPEAKING,
        Kind.TRANSCRIPT,
        Kind.EMOTION,
        Kind.REPLY_STARTED,
        Kind.SENTENCE,
        Kind.FIRST_AUDIO,
        Kind.SENTENCE,
        Kind.REPLY_STOPPED,
    ]
    assert kinds == expected


async def test_recording_is_what_was_played() -> None:
    """The packets that the speaker played decode to their whole duration."""
    async with talking(keep_audio=True) as (device, _, _):
        await device.ask(SPEECH)
    assert len(decode(device.played, 0.06)) == 12 * 0.06 * SPEAKER_RATE


async def test_abort_ends_the_reply() -> None:
    """The abort is answered by `tts stop`; what was not sent is not heard."""
    async with talking(Script(frames_per_sentence=40)) as (device, server, _):
        report = await device.ask(SPEECH, abort_after_s=0.1)
        assert device.firmware.state is State.LISTENING
    assert report.was_aborted
    assert len(server.messages("abort")) == 1
    assert report.abort_stop_ms is not None
    assert report.counters.frames < 40
    assert report.counters.stale_frames == 0


async def test_tool_is_called_and_answered() -> None:
    """MCP requests are answered over the socket and change the device."""
    request = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "self.audio_speaker.set_volume", "arguments": {"volume": 30}},
    }
    async with talking(Script(requests=(request,))) as (device, server, news):
        await device.ask(SPEECH)
        answers = server.messages("mcp")
    assert device.tools.volume == 30
    assert answers[0]["payload"]["id"] == 7
    assert Kind.TOOL_CALLED in [item.kind for item in news]


async def test_flood_overflows_the_queue() -> None:
    """A reply sent without pacing loses what does not fit: fault seen as overflow_frames."""
    async with talking(Script(is_flooding=True, frames_per_sentence=30, sentences=("a", "b"))) as (device, _, _):
        report = await device.ask(SPEECH)
    assert report.counters.frames == 60
    assert report.counters.overflow_frames > 0
    assert report.counters.played_frames < 60


async def test_late_frames_are_seen() -> None:
    """Frames that are held back are late, and the sound runs dry."""
    async with talking(Script(late_by_s=0.3)) as (device, _, _):
        report = await device.ask(SPEECH)
    assert report.counters.late_frames >= 4
    assert report.counters.underruns >= 1


async def test_no_gap_after_tts_start_is_seen() -> None:
    """Frames right behind `tts start` are lost: early_frames."""
    async with talking(Script(start_gap_s=0.0)) as (device, _, _):
        report = await device.ask(SPEECH)
    assert report.counters.early_frames >= 1
    assert report.counters.played_frames < 12


async def test_stale_frames_are_seen() -> None:
    """Sound behind the `tts stop` of an aborted reply is counted in that turn."""
    async with talking(Script(frames_per_sentence=40, stale_frames=3)) as (device, _, _):
        report = await device.ask(SPEECH, abort_after_s=0.1)
    assert report.counters.stale_frames == 3


async def test_stale_frames_between_turns_count_for_the_next() -> None:
    """What comes after a turn's report is not lost: it stands in the next turn's."""
    async with talking(Script(stale_frames=2), mode="manual") as (device, _, _):
        reports = [await device.ask(SPEECH), await device.ask(SPEECH)]
        total = device.firmware.counters.stale_frames
    assert sum(report.counters.stale_frames for report in reports) == total >= 2


async def test_missing_tts_stop_is_seen() -> None:
    """Without `tts stop` the device stays in Speaking; the turn fails and says how far it came."""
    async with talking(Script(sends_stop=False), answer_timeout_s=0.5) as (device, _, _):
        with pytest.raises(DeviceError, match="`tts stop` has not come") as caught:
            await device.ask(SPEECH)
        assert device.firmware.state is State.SPEAKING
    assert caught.value.code == "no_answer"


async def test_silent_server_is_seen() -> None:
    """Nobody answers: the turn fails with `no_answer` after the speech is over, not during it."""
    async with talking(Script(ignores_speech=True), mode="manual", answer_timeout_s=0.3) as (device, server, _):
        with pytest.raises(DeviceError, match="nothing has come") as caught:
            await device.ask(loud_speech(12))
        assert listens(server) == ["start", "stop"]
    assert caught.value.code == "no_answer"


async def test_hang_up_in_a_turn_is_seen() -> None:
    """The close code is named."""
    async with talking(Script(hangs_up_after_transcript=True)) as (device, _, _):
        with pytest.raises(DeviceError, match="1000") as caught:
            await device.ask(SPEECH)
        assert device.firmware.state is State.IDLE
    assert caught.value.code == "closed_1000"


async def test_refusal_names_the_token() -> None:
    """401 before the upgrade."""
    with pytest.raises(DeviceError, match="401") as caught:
        async with talking(Script(token="secret"), token="wrong"):
            pass
    assert caught.value.code == "refused"
    assert "wrong" not in str(caught.value)


async def test_nobody_there_is_unreachable() -> None:
    """A port on which nothing listens."""
    async with voice_server() as server:
        url = server.url
    async with Device(DeviceOptions(IDENTITY), SILENCE) as device:
        with pytest.raises(DeviceError) as caught:
            await device.open(url)
    assert caught.value.code == "unreachable"


async def test_no_hello_is_seen() -> None:
    """A server that opens the socket and says nothing."""
    with pytest.raises(DeviceError) as caught:
        async with talking(Script(hello=None), hello_timeout_s=0.2):
            pass
    assert caught.value.code == "no_hello"


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({key: value for key, value in HELLO.items() if key != "transport"}, "hello_transport"),
        ({**HELLO, "transport": 1}, "hello_transport"),
        ({**HELLO, "audio_params": {"frame_duration": 30}}, "hello_frame_duration"),
    ],
)
async def test_hello_that_breaks_a_device_is_refused(hello: dict[str, Any], code: str) -> None:
    """Where the firmware crashes or stays mute, the simulator says so."""
    with pytest.raises(DeviceError) as caught:
        async with talking(Script(hello=hello)):
            pass
    assert caught.value.code == code


async def test_close_leaves_no_task() -> None:
    """Both tasks of a device end with it."""
    before = asyncio.all_tasks()
    async with talking() as (device, _, _):
        await device.ask(SPEECH)
    names = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not [name for name in names if name.startswith("device-")]
