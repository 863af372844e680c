"""What devices send that they should not, and engines that fail: who suffers, who does not, and what is counted."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from shared.identity.auth import make_token
from shared.listening import Mode
from tests.fakes.cluster import Cluster, metric
from tests.fakes.llm import FakeLlm, Script
from tests.fakes.people import device, quiet, said, until
from tests.fakes.raw_device import HELLO, RawDevice, identity_of, raw_device, token_of, upgrade_headers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SCRIPTED = """
selected_module: {ASR: ScriptedASR, LLM: ScriptedLLM, TTS: SineTTS}
LLM:
  ScriptedLLM: {type: scripted, reply: "You said {text}. Good day."}
"""
WELL = """
cluster: {asr: {recognisers: 16}}
ASR: {ScriptedASR: {type: scripted}}
TTS: {SineTTS: {type: sine, ms_per_char: 15}}
"""
SENTENCE = "tell me about the weather"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    utterance()
    with Cluster(SCRIPTED + WELL) as running:
        yield running


@cache
def utterance() -> tuple[bytes, ...]:
    """A sentence and the silence behind it."""
    return (*said(SENTENCE).packets, *quiet()[:12])


async def bad_messages(cluster: Cluster, reason: str) -> float:
    return await metric(cluster, "router", "xz_bad_messages_total", reason=reason)


async def alive(device: RawDevice) -> None:
    """The connection has handled everything so far and goes on."""
    seen = len(device.texts("pong"))
    device.send({"type": "ping"})
    await device.until(lambda: len(device.texts("pong")) > seen)


async def speak(device: RawDevice, mode: Mode = "manual") -> None:
    """One more turn, to its end; its transcript must be of this device."""
    turns = len(device.texts("tts", "stop"))
    device.listen("start", mode=mode)
    device.send_all(utterance())
    if mode == "manual":
        device.listen("stop")
    await device.turns_over(turns + 1)
    assert device.texts("stt")[-1]["text"].endswith(f"of {device.session}")
    assert device.audio


# Who may not come in


async def test_a_stranger_is_refused_before_the_upgrade(cluster: Cluster) -> None:
    """No token, a broken one, one of another device, an old one: 401, counted by why, and no token is ever logged."""
    identity = identity_of(1)
    key = (cluster.data_dir / ".auth_key").read_text().strip()
    foreign = await token_of(cluster, identity_of(2))
    expired = make_token(key, identity.client_id, identity.device, time.time() - 31 * 24 * 3600)
    strangers = {"": "missing", "hubbub": "malformed", foreign: "bad_signature", expired: "expired"}
    for token, reason in strangers.items():
        before = await metric(cluster, "router", "xz_connection_rejects_total", reason=reason)
        refused = await RawDevice.connect(cluster, upgrade_headers(identity, token))
        assert refused.status == 401, refused.head
        assert await metric(cluster, "router", "xz_connection_rejects_total", reason=reason) == before + 1
    async with raw_device(cluster, 1) as welcome:
        await alive(welcome)
    logs = cluster.logs()
    for token in (*filter(None, strangers), await token_of(cluster, identity)):
        assert token not in logs and token.partition(".")[0] not in logs


async def test_allowlist_refuses_who_is_not_on_it() -> None:
    """Even with a token that was good before the list was made."""
    listed, stranger = identity_of(1), identity_of(2)
    auth = {"auth": {"enroll": "allowlist", "allowed_devices": [listed.device]}}
    none = {"asr": 0, "tts": 0, "session": 0}
    with Cluster(f"server: {json.dumps(auth)}", counts=none) as cluster:
        key = (cluster.data_dir / ".auth_key").read_text().strip()
        token = make_token(key, stranger.client_id, stranger.device, time.time())
        for tried in ("", token):
            refused = await RawDevice.connect(cluster, upgrade_headers(stranger, tried))
            assert refused.status == 401
        assert await metric(cluster, "router", "xz_connection_rejects_total", reason="not_listed") == 2
        welcome = await RawDevice.connect(cluster, upgrade_headers(listed))
        assert welcome.status == 101
        welcome.hang_up()
        assert token not in cluster.logs()


# Text that is no message


REFUSED = {
    "a list": ("[1, 2]", "not_object"),
    "a string": ('"hello"', "not_object"),
    "a fraction": ("1.5", "not_object"),
    "true": ("true", "not_object"),
    "null": ("null", "not_object"),
    "an empty object": ("{}", "no_type"),
    "a type of another type": ('{"type": 7}', "no_type"),
    "a type that does not exist": ('{"type": "teleport"}', "unknown_type"),
    "the goodbye of MQTT devices": ('{"type": "goodbye"}', "unknown_type"),
    "listen without state": ('{"type": "listen"}', "no_state"),
    "listen with another state": ('{"type": "listen", "state": "pause"}', "unknown_state"),
    "a state of another type": ('{"type": "listen", "state": {"a": 1}}', "unknown_state"),
    "text of another type": ('{"type": "listen", "state": "detect", "text": ["x"]}', "bad_field"),
    "mcp without payload": ('{"type": "mcp"}', "bad_field"),
    "mcp with text": ('{"type": "mcp", "payload": "x"}', "bad_field"),
    "very deep": ("[" * 30_000 + "]" * 30_000, "too_deep"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_wrong_message_is_counted_and_ignored(cluster: Cluster, text: str, reason: str) -> None:
    """By its reason; the connection lives."""
    async with raw_device(cluster, 10) as device:
        before = await bad_messages(cluster, reason)
        device.send(text)
        await alive(device)
        assert await bad_messages(cluster, reason) == before + 1


@pytest.mark.parametrize("text", ["not json {", "123", "-7", "", '{"type": "hello"'])
async def test_what_is_no_json_is_sent_back(cluster: Cluster, text: str) -> None:
    """As today's server does with it, and with bare integers; connection testers look for that."""
    async with raw_device(cluster, 11, hello=None) as device:
        device.send(text)
        await alive(device)
        assert device.received[0].body == text


async def goes_on(device: RawDevice) -> None:
    """After whatever has been sent: the connection lives, and text is answered aloud."""
    await alive(device)
    stops = len(device.texts("tts", "stop"))
    device.send({"type": "abort"})
    await device.turns_over(stops + 1)
    device.send(HELLO)
    device.listen("detect", text="hello there")
    await device.until(lambda: [one["text"] for one in device.texts("stt")][-1:] == ["hello there"])
    stops = len(device.texts("tts", "stop"))
    await device.turns_over(stops + 1)
    assert device.audio


UNEXPECTED: dict[str, dict[str, Any]] = {
    "infinity": {"type": "mcp", "payload": {"id": float("inf"), "result": [float("nan")]}},
    "a reply to nothing": {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 99, "result": {}}},
    "an abort of another shape": {"type": "abort", "reason": {"x": 1}, "session_id": []},
    "audio parameters beyond reason": {
        "type": "hello",
        "version": -1,
        "audio_params": {"format": "pcm", "sample_rate": 1e308, "channels": "x", "frame_duration": -60},
    },
}


async def test_an_unexpected_message_harms_nobody(cluster: Cluster) -> None:
    """JSON of the right shape with values of no use: the connection lives, and the next turn works."""

    async def send(number: int, message: dict[str, Any]) -> None:
        async with raw_device(cluster, number, hello=None) as device:
            device.send(message)
            await goes_on(device)

    await asyncio.gather(*(send(number, message) for number, message in enumerate(UNEXPECTED.values(), 60)))


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


UNTRANSPORTABLE: dict[str, dict[str, Any]] = {
    "mcp that is deep": {"type": "mcp", "payload": nested(600)},
    "iot that is deep": {"type": "iot", "states": nested(600)},
    "features that are deep": {**HELLO, "features": nested(600)},
    "a number beyond 64 bits": {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 10**30, "result": {}}},
    "features with such a number": {**HELLO, "features": {"mcp": True, "x": 10**30}},
    "half a character": {"type": "listen", "state": "detect", "text": "\ud800"},
    "half a character in mcp": {"type": "mcp", "payload": {"id": 1, "jsonrpc": "2.0", "result": "\ud800"}},
    "half a character in features": {**HELLO, "features": {"mcp": "\udfff"}},
    "numbers that grow on the way": {"type": "mcp", "payload": {"id": 1, "result": [1.5] * 12_000}},
}


async def test_what_no_worker_can_be_sent_harms_nobody() -> None:
    """JSON that MessagePack or a link's limit cannot take: counted, the connection lives, the next turn works."""
    with Cluster(SCRIPTED + WELL) as cluster:

        async def send(number: int, message: dict[str, Any]) -> None:
            async with raw_device(cluster, number) as device:
                device.send(message)
                await goes_on(device)

        await asyncio.gather(*(send(number, message) for number, message in enumerate(UNTRANSPORTABLE.values(), 60)))
        assert await metric(cluster, "router", "xz_bad_messages_total") == len(UNTRANSPORTABLE)


@pytest.mark.parametrize("message", ["x" * 65_537, b"x" * 65_537])
async def test_a_message_over_64_kib_closes_with_1009(cluster: Cluster, message: str | bytes) -> None:
    """The firmware itself sends no longer one; it is the one malformed message that ends a connection."""
    async with raw_device(cluster, 13) as device:
        device.send(message)
        await device.gone()
        assert device.close_code == 1009


# Audio that is none


LYING = {
    "v2 longer than there is": (2, struct.pack(">HHIII", 2, 0, 0, 7, 500) + bytes(20), "header_length"),
    "v2 of 4 GB": (2, struct.pack(">HHIII", 2, 0, 0, 7, 0xFFFFFFFF) + bytes(20), "header_length"),
    "v2 cut short": (2, struct.pack(">HHI", 2, 0, 0), "header_short"),
    "v2 with JSON": (2, struct.pack(">HHIII", 2, 1, 0, 7, 2) + b"{}", "not_audio"),
    "v3 longer than there is": (3, struct.pack(">BBH", 0, 0, 500) + bytes(20), "header_length"),
    "v3 cut short": (3, b"\0\0", "header_short"),
    "v3 with JSON": (3, struct.pack(">BBH", 1, 0, 2) + b"{}", "not_audio"),
    "v3 too large": (3, struct.pack(">BBH", 0, 0, 4001) + bytes(4001), "packet_too_large"),
    "v1 too large": (1, bytes(4001), "packet_too_large"),
    "v1 as large as a message can be": (1, bytes(65_536), "packet_too_large"),
    "v1 of 1.2 seconds": (1, bytes([0x03, 0x3F]) + bytes(62), "packet_too_long"),
}


@pytest.mark.parametrize(("version", "message", "reason"), LYING.values(), ids=LYING)
async def test_a_lying_frame_is_dropped_and_counted(
    cluster: Cluster, version: int, message: bytes, reason: str
) -> None:
    """Nothing is read beyond what there is, and the connection lives."""
    async with raw_device(cluster, 20, Protocol_Version=str(version)) as device:
        before = await bad_messages(cluster, reason)
        device.listen("start", mode="auto")
        device.send(message)
        await alive(device)
        assert await bad_messages(cluster, reason) == before + 1


async def test_garbage_instead_of_opus_is_concealed_and_the_next_utterance_works(cluster: Cluster) -> None:
    """Undecodable packets within and before speech are counted by the worker."""
    chance = random.Random(7)
    # Two frames of equal size in an odd number of bytes: no decoder takes that.
    garbage = [bytes([chance.choice((0x09, 0x59, 0xF9))]) + chance.randbytes(58) + b"!" for _ in range(20)]
    before = await metric(cluster, "asr", "xz_asr_bad_packets_total")
    async with raw_device(cluster, 21) as device:
        device.listen("start", mode="manual")
        device.send_all([packet for pair in zip(utterance(), garbage, strict=False) for packet in pair])
        device.listen("stop")
        await device.turns_over()
        await speak(device)
    assert await metric(cluster, "asr", "xz_asr_bad_packets_total") >= before + 20


# Too much of it


async def test_a_flood_of_garbage_is_the_senders_own_problem(cluster: Cluster) -> None:
    """100 messages a second from one device: three others keep their pace, it is limited, and heard again after."""

    async def chat() -> list[int]:
        """Late frames of three devices in a turn each."""

        async def converse(number: int) -> int:
            async with device(cluster, number, mode="manual") as talker:
                report = await talker.ask(said(SENTENCE))
                assert talker.session in report.reply and report.counters.frames > 10
                return report.counters.late_frames + report.counters.underruns

        return list(await asyncio.gather(*(converse(number) for number in (30, 31, 32))))

    async def flood(offender: RawDevice) -> None:
        nonsense: list[str | bytes] = ['{"type": "teleport"}', "not json {", "[]", bytes(4001)]
        while True:
            for message in nonsense:
                offender.send(message)
                await asyncio.sleep(0.01)

    calm = await chat()
    limited = await bad_messages(cluster, "limited")
    async with raw_device(cluster, 33) as offender:
        task = asyncio.create_task(flood(offender), name="flood")
        try:
            stormy = await chat()
        finally:
            task.cancel()
        await asyncio.wait([task])
        assert await bad_messages(cluster, "limited") > limited + 100
        echoes = sum(one.body == "not json {" for one in offender.received)
        assert 0 < echoes < 100
        # A token comes back in a tenth of a second.
        await asyncio.sleep(0.3)
        await speak(offender)
    assert sum(stormy) <= 2 * sum(calm) + 10, (calm, stormy)


async def test_a_burst_of_valid_audio_is_never_limited(cluster: Cluster) -> None:
    """After a stall a device sends the 40 packets that it has kept, at once."""
    limited = await bad_messages(cluster, "limited")
    async with raw_device(cluster, 34) as device:
        device.listen("start", mode="auto")
        device.send_all([*quiet(), *quiet()])
        await speak(device, "auto")
    assert await bad_messages(cluster, "limited") == limited


async def test_the_newer_connection_of_a_device_wins(cluster: Cluster) -> None:
    """The older one is closed with 1000, in the middle of its answer, and the newer one talks."""
    async with raw_device(cluster, 35) as older:
        older.listen("detect", text="a long story of long ago")
        await older.until(lambda: bool(older.audio))
        async with raw_device(cluster, 35) as newer:
            await older.gone()
            assert older.close_code == 1000
            await speak(newer)


# Engines that fail


RAISING = """
cluster: {asr: {recognisers: 4}}
ASR: {ScriptedASR: {type: scripted, fail: raise, fail_every: 1}}
TTS: {SineTTS: {type: sine, fail: raise}}
"""
SLEEPING = """
cluster:
  asr: {recognisers: 4, final_timeout_s: 1.5}
  mouth: {first_frame_timeout_s: 1}
ASR: {ScriptedASR: {type: scripted, fail: sleep, fail_every: 2}}
TTS: {SineTTS: {type: sine, fail: hang}}
"""


async def both_apologise(cluster: Cluster) -> None:
    """A question by voice, for the recogniser, and one by text, for the voice: each is answered by an apology."""

    async def by_voice() -> None:
        async with raw_device(cluster, 40) as device:
            ask_aloud(device)
            await apology_over(device)
            assert not device.texts("stt")

    async def by_text() -> None:
        async with raw_device(cluster, 41) as device:
            device.listen("detect", text="hello there")
            await apology_over(device)

    await asyncio.gather(by_voice(), by_text())
    for program, name in (("asr", "xz_asr_failures_total"), ("tts", "xz_tts_errors_total")):
        slots = range(cluster.counts[program])
        assert sum([await metric(cluster, program, name, slot, code="scripted") for slot in slots]) >= 1
    assert await metric(cluster, "router", "xz_prompts_total", prompt="apology") == 2


async def apology_over(device: RawDevice) -> None:
    await device.turns_over()
    assert len(device.audio) > 10
    assert len(device.texts("tts", "start")) == len(device.texts("tts", "stop")) == 1
    await alive(device)


async def test_engines_that_raise_are_apologised_for() -> None:
    """A recogniser and a voice that raise at every call: errors are typed, an apology is heard, then `tts stop`."""
    with Cluster(SCRIPTED + RAISING, counts={"asr": 2, "tts": 2, "session": 1}) as cluster:
        await both_apologise(cluster)


async def test_engines_of_single_workers_that_raise_are_apologised_for() -> None:
    """With one worker in each pool the failure is the same, and so is its answer."""
    with Cluster(SCRIPTED + RAISING) as cluster:
        await both_apologise(cluster)


async def test_engines_that_sleep_hold_up_nobody_else() -> None:
    """A recogniser and a voice that sleep 20 s: others are recognised at once, workers beat on, all get an apology."""
    with Cluster(SCRIPTED + SLEEPING) as cluster:
        async with (
            raw_device(cluster, 45) as first,
            raw_device(cluster, 46) as second,
            raw_device(cluster, 47) as third,
        ):
            # Every second call of the recogniser sleeps, and so does every call of the voice.
            ask_aloud(first)
            await first.until(lambda: bool(first.texts("stt")))
            ask_aloud(second)
            ask_aloud(third)
            await until(lambda: bool(second.texts("stt") or third.texts("stt")), 1.5)
            await asyncio.gather(*(talker.turns_over() for talker in (first, second, third)))
            assert sorted(len(talker.texts("stt")) for talker in (first, second, third)) == [0, 1, 1]
            for talker in (first, second, third):
                assert len(talker.audio) > 10
                assert len(talker.texts("tts", "start")) == len(talker.texts("tts", "stop")) == 1
        assert await metric(cluster, "router", "xz_worker_deaths_total") == 0
        assert await metric(cluster, "router", "xz_utterances_failed_total") == 1


def ask_aloud(device: RawDevice) -> None:
    device.listen("start", mode="manual")
    device.send_all(utterance())
    device.listen("stop")


# Language models that fail


THINKING = """
selected_module: {ASR: ScriptedASR, LLM: FakeLLM, TTS: SineTTS}
ASR: {ScriptedASR: {type: scripted}}
TTS: {SineTTS: {type: sine, ms_per_char: 8}}
cluster: {session: {llm_first_token_timeout_s: 5}}
LLM: {FakeLLM: {type: openai, model_name: fake, base_url: BASE_URL}}
"""


class LlmThread:
    """The fake server on a loop of its own, so that it serves a whole module."""

    def __init__(self) -> None:
        self.fake = FakeLlm()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-llm")

    def start(self) -> None:
        self._thread.start()
        self.call(self.fake.start())

    def call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        self.call(self.fake.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def llm() -> Iterator[LlmThread]:
    server = LlmThread()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def thinking(llm: LlmThread) -> Iterator[Cluster]:
    with Cluster(THINKING.replace("BASE_URL", llm.fake.base_url)) as running:
        yield running


async def ask(cluster: Cluster, number: int, text: str) -> RawDevice:
    """One question by text, heard to its end."""
    async with raw_device(cluster, number) as device:
        device.listen("detect", text=text)
        await device.turns_over()
        assert device.audio and len(device.texts("tts", "start")) == len(device.texts("tts", "stop")) == 1
        return device


def spoken(device: RawDevice) -> str:
    return " ".join(message["text"] for message in device.texts("tts", "sentence_start"))


KNOWN, UNKNOWN = ("what time is it", "It is"), ("why is the sky blue", "Sorry")

FAULTS = {
    "refuses": ([Script(status=503), Script(status=503)], KNOWN),
    "fails within itself": ([Script(status=500), Script(status=500)], UNKNOWN),
    "has another key": ([Script(status=401)], UNKNOWN),
    "is malformed": ([Script(tokens=(), fault="malformed"), Script(tokens=(), fault="malformed")], KNOWN),
    "breaks off at once": ([Script(tokens=(), fault="cut"), Script(tokens=(), fault="cut")], UNKNOWN),
    "reports an error": ([Script(tokens=(), fault="error_event"), Script(tokens=(), fault="error_event")], KNOWN),
    "says nothing": ([Script(tokens=())], UNKNOWN),
}


@pytest.mark.parametrize(("scripts", "case"), FAULTS.values(), ids=FAULTS)
async def test_a_failing_model_is_answered_for(
    thinking: Cluster, llm: LlmThread, scripts: list[Script], case: tuple[str, str]
) -> None:
    """What the offline brain knows it answers, anything else gets an apology: spoken, then `tts stop`."""
    text, words = case
    # A good answer ends the model's bad run; after three failures it would not be asked at all.
    await ask(thinking, 50, "how are you today")
    asked = len(llm.fake.requests)
    llm.fake.scripts.extend(scripts)
    try:
        heard = spoken(await ask(thinking, 50, text))
    finally:
        llm.fake.scripts.clear()
    assert len(llm.fake.requests) > asked
    assert words in heard, heard


async def test_a_model_that_breaks_off_in_a_sentence_ends_the_turn(thinking: Cluster, llm: LlmThread) -> None:
    """What was complete is heard, then `tts stop`."""
    for fault in ("cut", "malformed"):
        llm.fake.scripts.append(Script(tokens=("First", " things", " first.", " And", " then"), fault=fault))
        assert spoken(await ask(thinking, 51, "tell me more")).startswith("First things first")


async def test_a_slow_model_is_covered_by_a_filler(thinking: Cluster, llm: LlmThread) -> None:
    """4 s of silence are broken by a word or two, and the answer follows; a model that never begins is given up."""
    before = await metric(thinking, "router", "xz_prompts_total", prompt="filler")
    asked = len(llm.fake.requests)
    llm.fake.scripts.extend([Script(tokens=("Here", " I", " am."), first_token_s=4.5), Script(fault="hang")])
    async with asyncio.TaskGroup() as questions:
        late = questions.create_task(ask(thinking, 52, "tell me more"))
        await until(lambda: len(llm.fake.requests) > asked)
        never = questions.create_task(ask(thinking, 53, "tell me more"))
    sentences = late.result().texts("tts", "sentence_start")
    assert len(sentences) == 2 and sentences[1]["text"].startswith("Here I am")
    assert "Sorry" in spoken(never.result())
    assert await metric(thinking, "router", "xz_prompts_total", prompt="filler") == before + 2


async def test_an_unreachable_model_is_answered_for(thinking: Cluster, llm: LlmThread) -> None:
    """Nobody listens at its address: the last test of the server, which is gone then."""
    await ask(thinking, 53, "how are you today")
    llm.call(llm.fake.stop())
    time_told, apology = await asyncio.gather(ask(thinking, 53, "what time is it"), ask(thinking, 54, "why is it"))
    assert "It is" in spoken(time_told) and "Sorry" in spoken(apology)
