"""A whole session worker behind a fake router: turns, tools, failures, resumption. No sockets but a model's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.ids import StreamId
from shared.link.messages import Effects, FromDevice, Input, OpenSession, Profile, TurnOver
from shared.settings import ClusterSettings, EngineChoice, SessionSettings, Settings, StoreSettings, VoiceprintSettings
from shared.store.store import Store
from tests.fakes.llm import FakeLlm, Script
from tests.fakes.session import FakeMcpDevice, FakeRouter
from workers.session.answering import APOLOGY
from workers.session.service import SessionService

pytestmark = pytest.mark.contract

NOON_UTC = 1_795_521_600.0
"""2026-11-24 12:00 UTC."""


class World:
    """One service and its routers."""

    def __init__(self, service: SessionService) -> None:
        self.service = service
        self._streams = 0

    def connect(self, device: str = "aa:bb", *, mcp: FakeMcpDevice | None = None, **more: Any) -> FakeRouter:
        self._streams += 1
        router = FakeRouter(StreamId(self._streams), mcp)
        features = {"mcp": True} if mcp is not None else {}
        body = OpenSession(f"s{self._streams}", device, features=features, **more)
        router.job = self.service.open(router, body.to_map())
        return router


@pytest.fixture
async def llm() -> AsyncIterator[FakeLlm]:
    server = FakeLlm()
    await server.start()
    yield server
    await server.stop()


@dataclass
class Worlds:
    """All services of one test; they share one store."""

    directory: Path
    made: list[World] = field(default_factory=list)

    async def offline(self, **settings: Any) -> World:
        return await self.make(SessionSettings(**settings))

    async def online(self, llm: FakeLlm, **settings: Any) -> World:
        options = {"url": llm.base_url, "model_name": "m"}
        return await self.make(SessionSettings(llm=EngineChoice(name="L", type="openai", options=options), **settings))

    async def scripted(self, **options: Any) -> World:
        return await self.make(SessionSettings(llm=EngineChoice(name="S", type="scripted", options=options)))

    async def make(self, session: SessionSettings, voiceprint: VoiceprintSettings | None = None) -> World:
        cluster = ClusterSettings(data_dir=self.directory)
        settings = Settings(session=session, cluster=cluster, voiceprint=voiceprint or VoiceprintSettings())
        world = World(SessionService(settings, clock=lambda: NOON_UTC))
        await world.service.start()
        self.made.append(world)
        return world


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[Worlds]:
    store = await Store.open(StoreSettings(), tmp_path, migrates=True)
    await store.close()
    worlds = Worlds(tmp_path)
    yield worlds
    for world in worlds.made:
        await world.service.close()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("session-", "store-"))]
    assert left == []


async def test_profile_comes_first(worlds: Worlds) -> None:
    """The router waits for it before it opens the ear."""
    router = (await worlds.offline()).connect()
    await router.turn(1, "hello")
    assert isinstance(router.events[0], Profile)
    assert len(router.of(Profile)) == 1


async def test_the_time_is_told_in_the_configured_zone(worlds: Worlds) -> None:
    """server.timezone_offset decides, not the machine's zone."""
    router = (await worlds.offline(timezone_offset_h=8.0)).connect()
    assert await router.turn(1, "what time is it") == "It is eight o'clock in the evening."
    assert await router.turn(2, "现在几点了") == "现在是晚上八点整。"
    assert router.reply_ends(1)[0].stats["brain"] == "offline"


async def test_offline_conversation(worlds: Worlds) -> None:
    """Jokes differ from turn to turn, stories have several segments, what was said can be repeated."""
    router = (await worlds.offline()).connect()
    assert await router.turn(1, "say that again") == "I have not said anything yet."
    first, second = await router.turn(2, "tell me a joke"), await router.turn(3, "tell me another joke")
    assert first != second
    assert router.emotions(2) == ["laughing"]
    assert (await router.turn(4, "repeat that")).replace("|", " ") == second.replace("|", " ")
    await router.turn(5, "tell me a story")
    assert len(router.segments(5)) > 4
    assert "understand" in await router.turn(6, "what is the capital of france")


async def test_goodbye_closes_behind_the_reply(worlds: Worlds) -> None:
    """goodbye, an exit command and a farewell close; nothing else does."""
    router = (await worlds.offline()).connect()
    for gen, text, source, closes in (
        (1, "goodbye", "asr", True),
        (2, "退出", "asr", True),
        (3, "", "farewell", True),
        (4, "hello", "asr", False),
        (5, "", "greeting", False),
    ):
        assert await router.turn(gen, text, source)
        assert router.closes(gen) is closes


async def test_wake_word_is_greeted_without_a_model(worlds: Worlds, llm: FakeLlm) -> None:
    """A wake word has a short answer of its own."""
    router = (await worlds.online(llm, wakeup_words=("你好小智",))).connect()
    assert await router.turn(1, "你好小智")
    assert router.segments(1)[0].language == "zh"
    assert llm.requests == []


async def test_wake_word_without_greeting_is_an_empty_reply(worlds: Worlds) -> None:
    """enable_greeting: false answers with nothing but the reply's end."""
    router = (await worlds.offline(wakeup_words=("hi",), enable_greeting=False)).connect()
    assert await router.turn(1, "hi") == ""
    assert len(router.reply_ends(1)) == 1


async def test_volume_through_the_devices_tools(worlds: Worlds) -> None:
    """Raised from what the device says it is, once the router has taken note; reading asks no leave."""
    device = FakeMcpDevice(volume=95)
    router = (await worlds.offline()).connect(mcp=device)
    assert await router.turn(1, "what is the volume") == "The volume is ninety-five percent."
    assert router.of(Effects) == []
    assert await router.turn(2, "turn it up") == "The volume is now one hundred percent."
    assert await router.turn(3, "音量调到三十") == "音量已经调到百分之三十。"
    assert device.volume == 30
    assert [(event.gen, event.n) for event in router.of(Effects)] == [(2, 1), (3, 0)]
    assert {"type": "stt", "text": "% self_audio_speaker_set_volume"} in router.to_device("stt")


async def test_volume_through_old_things(worlds: Worlds) -> None:
    """A device of the old firmware is commanded by iot messages."""
    router = (await worlds.offline()).connect()
    method = {"description": "", "parameters": {"volume": {"type": "number"}}}
    router.send(FromDevice({"type": "iot", "descriptors": [{"name": "Speaker", "methods": {"SetVolume": method}}]}))
    router.send(FromDevice({"type": "iot", "states": [{"name": "Speaker", "state": {"volume": 50}}]}))
    assert await router.turn(1, "louder") == "The volume is now sixty percent."
    commands = router.to_device("iot")[0]["commands"]
    assert commands == [{"name": "Speaker", "method": "SetVolume", "parameters": {"volume": 60}}]
    assert await router.turn(2, "what is the volume") == "The volume is sixty percent."


async def test_a_device_without_tools_says_so(worlds: Worlds) -> None:
    """An honest sentence instead of a claim."""
    router = (await worlds.offline()).connect()
    assert "does not let me" in await router.turn(1, "louder")


async def test_a_model_answers_in_segments(worlds: Worlds, llm: FakeLlm) -> None:
    """Deltas become segments; the statistics say how long the first word took and who answered."""
    llm.default = Script(tokens=("😂 Sure", ", it is ", "3.", "14. O", "K"))
    router = (await worlds.online(llm)).connect()
    assert await router.turn(1, "what is pi") == "Sure,|it is 3.14.|OK"
    stats = router.reply_ends(1)[0].stats
    assert stats["brain"] == "llm"
    assert 0 <= stats["llm_first_ms"] <= stats["llm_ms"]
    assert router.emotions(1) == ["funny"]
    assert llm.requests[0]["messages"][0]["content"].endswith("Current time: 2026-11-24 20:00 Tuesday")


async def test_the_next_request_tells_what_was_heard(worlds: Worlds, llm: FakeLlm) -> None:
    """An interrupted answer is told as far as it was heard."""
    llm.default = Script(tokens=("First sentence. ", "Second sentence here. "), fault="hang_midstream")
    router = (await worlds.online(llm)).connect()
    router.ask(1, "question one")
    await router.until(lambda: len(router.segments(1)) == 2)
    router.over(1, "interrupted", played=1, part=0.8)
    await asyncio.wait_for(llm.left.wait(), 5)
    llm.default = Script(tokens=("Fine.",))
    await router.turn(2, "question two")
    told = [(message["role"], message["content"]) for message in llm.requests[1]["messages"][1:]]
    assert told == [
        ("user", "question one"),
        ("assistant", "First sentence. Second sentence"),
        ("user", "question two"),
    ]
    assert router.reply_ends(1) == []


async def test_turn_over_cancels_at_once(worlds: Worlds, llm: FakeLlm) -> None:
    """The upstream request ends with the turn, before its first word as well; nothing more is said."""
    llm.default = Script(fault="hang")
    router = (await worlds.online(llm)).connect()
    router.ask(1, "hello")
    await asyncio.wait_for(llm.asked.wait(), 5)
    router.over(1, "interrupted", played=0)
    await asyncio.wait_for(llm.left.wait(), 5)
    assert [*router.segments(1), *router.reply_ends(1)] == []


@pytest.mark.parametrize(
    "script",
    [
        Script(status=401),
        Script(status=500),
        Script(status=429),
        Script(tokens=(), fault="malformed"),
        Script(tokens=("The answer is n",), fault="cut"),
        Script(fault="hang"),
    ],
)
async def test_a_failing_model_is_never_silence(worlds: Worlds, llm: FakeLlm, script: Script) -> None:
    """The offline brain answers what it knows, else there is an apology in the person's language; one end each."""
    llm.default = script
    router = (await worlds.online(llm, llm_first_token_timeout_s=0.2, system_error_response="抱歉。")).connect()
    assert await router.turn(1, "what time is it") == "It is eight o'clock in the evening."
    assert await router.turn(2, "who won the world cup") == APOLOGY.removeprefix("😔 ").replace(". ", ".|").replace(
        "Sorry, ", "Sorry,|"
    )
    assert await router.turn(3, "谁赢了世界杯") == "抱歉。"
    assert [len(router.reply_ends(gen)) for gen in (1, 2, 3)] == [1, 1, 1]
    assert router.reply_ends(2)[0].stats["error"].startswith("llm_")


async def test_a_cut_answer_keeps_its_whole_sentences(worlds: Worlds, llm: FakeLlm) -> None:
    """What was complete was said; the half sentence is not, and nothing false is added."""
    llm.default = Script(tokens=("It is safe. ", "But not for"), fault="cut")
    router = (await worlds.online(llm)).connect()
    assert await router.turn(1, "is it safe") == "It is safe."
    llm.default = Script()
    await router.turn(2, "go on")
    assert llm.requests[-1]["messages"][2] == {"role": "assistant", "content": "It is safe."}


async def test_a_model_uses_the_devices_tools(worlds: Worlds, llm: FakeLlm) -> None:
    """Listed tools are offered, called with the router's leave, and their results go back to the model."""
    device = FakeMcpDevice()
    router = (await worlds.online(llm)).connect(mcp=device)
    calls = (("self_audio_speaker_set_volume", '{"volume": 20}'), ("self_get_device_status", ""))
    llm.scripts.extend([Script(tokens=("One moment.",), calls=calls), Script(tokens=("Done.",))])
    assert await router.turn(1, "quieter and tell me") == "One moment.|Done."
    offered = [tool["function"]["name"] for tool in llm.requests[0]["tools"]]
    assert offered == ["self_get_device_status", "self_audio_speaker_set_volume"]
    assert device.volume == 20
    assert [event.n for event in router.of(Effects)] == [0]
    results = [message for message in llm.requests[1]["messages"] if message["role"] == "tool"]
    assert [result["tool_call_id"] for result in results] == ["call_0", "call_1"]
    assert results[0]["content"] == "ok: true"
    assert json.loads(results[1]["content"].removeprefix("ok: "))["audio_speaker"]["volume"] == 20
    assert router.reply_ends(1)[0].stats["tools"] == 2


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("self_get_device_status", '{"a": '), "not valid JSON"),
        (("self_get_device_status", "[1]"), "must be a JSON object"),
        (("self_reboot", "{}"), "there is no tool"),
        (("self.reboot", "{}"), "there is no tool"),
        (("self_screen_set_theme", "{}"), "there is no tool"),
        (("self_audio_speaker_set_volume", "{}"), "Missing valid argument"),
    ],
)
async def test_a_bad_call_is_told_and_the_turn_goes_on(
    worlds: Worlds, llm: FakeLlm, call: tuple[str, str], told: str
) -> None:
    """Bad arguments, unknown and forbidden tools are answered in words; the model speaks on."""
    device = FakeMcpDevice()
    router = (await worlds.online(llm)).connect(mcp=device)
    llm.scripts.extend([Script(tokens=(), calls=(call,)), Script(tokens=("I could not.",))])
    assert await router.turn(1, "do it") == "I could not."
    assert told in llm.requests[1]["messages"][-1]["content"]
    assert "self.reboot" not in device.calls()


async def test_nointent_offers_no_tools(worlds: Worlds, llm: FakeLlm) -> None:
    """The model only talks; one that calls a tool all the same runs nothing. The device's own commands still work."""
    device = FakeMcpDevice(volume=40)
    router = (await worlds.online(llm, intent="nointent")).connect(mcp=device)
    call = ("self_audio_speaker_set_volume", '{"volume": 20}')
    llm.scripts.extend([Script(tokens=("Just talk.",)), Script(tokens=("Done.",), calls=(call,)), Script(status=401)])
    assert await router.turn(1, "quieter please") == "Just talk."
    assert await router.turn(2, "quieter please") == "Done."
    assert ["tools" in request for request in llm.requests] == [False, False]
    assert device.calls() == [] and device.volume == 40
    assert await router.turn(3, "turn it up") == "The volume is now fifty percent."


async def test_tool_rounds_are_bounded(worlds: Worlds, llm: FakeLlm) -> None:
    """A model that calls tools for ever must answer without them in the end."""
    llm.default = Script(tokens=("Hm.",), calls=(("self_get_device_status", "{}"),))
    router = (await worlds.online(llm)).connect(mcp=FakeMcpDevice())
    await router.turn(1, "go")
    assert len(llm.requests) == 6
    assert ["tools" in request for request in llm.requests] == [True] * 5 + [False]
    assert len(router.reply_ends(1)) == 1


async def test_a_dead_turns_tool_reaches_nobody(worlds: Worlds, llm: FakeLlm) -> None:
    """A tool that returns after its turn is over starts no request and says nothing in the next turn."""
    device = FakeMcpDevice(silent=True)
    router = (await worlds.online(llm)).connect(mcp=device)
    llm.scripts.extend([Script(tokens=(), calls=(("self_get_device_status", "{}"),)), Script(tokens=("New.",))])
    router.ask(1, "go")
    await asyncio.wait_for(device.called.wait(), 5)
    router.over(1, "interrupted", played=0)
    late = {"jsonrpc": "2.0", "id": device.requests[-1]["id"], "result": {"content": []}}
    router.send(FromDevice({"type": "mcp", "payload": late}))
    assert await router.turn(2, "next") == "New."
    assert len(llm.requests) == 2
    assert [message["role"] for message in llm.requests[1]["messages"]] == ["system", "user"]


async def test_farewell_uses_the_end_prompt(worlds: Worlds, llm: FakeLlm) -> None:
    """The model says goodbye by the prompt; if it cannot, there is a goodbye all the same, and it closes."""
    router = (await worlds.online(llm)).connect()
    llm.scripts.extend([Script(tokens=("Farewell, friend.",)), Script(status=401)])
    assert await router.turn(1, "Say goodbye warmly.", "farewell") == "Farewell,|friend."
    assert await router.turn(2, "Say goodbye warmly.", "farewell")
    assert router.closes(1)
    assert router.closes(2)


async def test_a_dialogue_goes_on_after_a_reconnection(worlds: Worlds, llm: FakeLlm) -> None:
    """The device's next connection remembers, another device's does not."""
    world = await worlds.online(llm)
    first = world.connect("a")
    await first.turn(1, "my name is Ada")
    first.end()
    await first.until(lambda: first.ends)
    await world.connect("a").turn(1, "who am I")
    await world.connect("b").turn(1, "who am I")
    assert [len(request["messages"]) for request in llm.requests] == [2, 4, 2]
    assert first.ends == ["done"]


async def test_a_second_session_of_a_device_takes_over(worlds: Worlds, llm: FakeLlm) -> None:
    """The first one ends with its running turn, exactly once; the second one has the dialogue."""
    world = await worlds.online(llm)
    first = world.connect("a")
    await first.turn(1, "my name is Ada")
    llm.asked.clear()
    llm.default = Script(fault="hang")
    first.ask(2, "never answered")
    await asyncio.wait_for(llm.asked.wait(), 5)
    second = world.connect("a")
    llm.default = Script(tokens=("Ada.",))
    assert await second.turn(1, "who am I") == "Ada."
    assert first.ends == ["superseded"]
    told = [message["content"] for message in llm.requests[-1]["messages"][1:]]
    assert told[:2] == ["my name is Ada", "Hello there."]


async def test_a_resumed_turn_is_asked_again(worlds: Worlds) -> None:
    """A worker died in this turn before anything of it was heard."""
    router = (await worlds.scripted(reply="You said: {text}.")).connect(resume=Input(7, "hello", "asr"))
    assert await router.reply(7) == "You said: hello."


async def test_end_finishes_what_came_before(worlds: Worlds) -> None:
    """END is handled in order, commits, and is answered by one DONE even with a turn running."""
    router = (await worlds.scripted(reply="Hi.", first_token_ms=60_000)).connect()
    router.ask(1, "hello")
    await asyncio.sleep(0)
    router.end()
    await router.until(lambda: router.ends)
    assert router.ends == ["done"]
    assert router.reply_ends(1) == []


async def test_abort_frees_everything(worlds: Worlds) -> None:
    """The runtime has answered already: nothing more is sent."""
    world = await worlds.scripted(first_token_ms=60_000)
    router = world.connect()
    router.ask(1, "hello")
    await asyncio.sleep(0)
    router.is_open = False
    router.job.on_abort("gone")  # type: ignore[union-attr]
    await world.service.close()
    assert router.ends == []


async def test_malformed_events_are_survived(worlds: Worlds) -> None:
    """Unknown names, missing keys and wrong types change nothing."""
    router = (await worlds.offline()).connect()
    for body in ({}, {"name": "input"}, {"name": "input", "gen": "x"}, {"name": "turn_over"}, {"name": "new_thing"}):
        router._deliver(body)
    router.send(FromDevice({"type": "mcp", "payload": "no object"}))
    assert await router.turn(1, "hello")
    assert router.ends == []


async def test_a_flood_of_events_fails_one_session(worlds: Worlds) -> None:
    """An inbox is bounded; other sessions go on."""
    world = await worlds.offline()
    flooded, other = world.connect("a"), world.connect("b")
    for gen in range(400):
        flooded._deliver(TurnOver(gen, "complete", "", 0).to_map())
    assert flooded.ends == ["overloaded"]
    assert await other.turn(1, "hello")


async def test_scripted_sessions_hear_only_their_own(worlds: Worlds) -> None:
    """Fifty sessions at once, each gets its own marker."""
    world = await worlds.scripted(reply="{session} says {text} to {device}.", token_ms=1)
    routers = [world.connect(f"d{n}") for n in range(50)]
    said = await asyncio.gather(*(router.turn(1, f"w{n}") for n, router in enumerate(routers)))
    assert list(said) == [f"s{n + 1} says w{n} to d{n}." for n in range(50)]


async def test_the_model_is_told_who_speaks(worlds: Worlds, llm: FakeLlm) -> None:
    """A speaker's first words on a connection come with the name, later ones as they are; the prompt lists all."""
    options = {"url": llm.base_url, "model_name": "m"}
    session = SessionSettings(llm=EngineChoice(name="L", type="openai", options=options))
    speakers = ("a,张三,a programmer", "b,李四,a teacher")
    voiceprint = VoiceprintSettings(url="http://127.0.0.1:1/?key=k", speakers=speakers)
    router = (await worlds.make(session, voiceprint)).connect()
    people = ("张三", "张三", "未知说话人", None, "李四", "张三")
    words = ("one", "two", "three", "four", "five", "six")
    for gen, (text, speaker) in enumerate(zip(words, people, strict=True), 1):
        router.send(Input(gen, text, "asr", speaker=speaker))
        await router.reply(gen)
        router.over(gen)
    messages = llm.requests[-1]["messages"]
    assert [message["content"] for message in messages if message["role"] == "user"] == [
        '{"speaker": "张三", "content": "one"}',
        "two",
        '{"speaker": "未知说话人", "content": "three"}',
        "four",
        '{"speaker": "李四", "content": "five"}',
        "six",
    ]
    info = "<speakers_info>\n- 张三: a programmer\n- 李四: a teacher\n</speakers_info>"
    assert messages[0]["content"].count(info) == 1


async def test_another_connection_names_its_speakers_anew(worlds: Worlds, llm: FakeLlm) -> None:
    """A model that goes on with an older dialogue is told again."""
    world = await worlds.online(llm)
    for _ in range(2):
        router = world.connect()
        router.send(Input(1, "hello", "asr", speaker="张三"))
        await router.reply(1)
        router.over(1)
        router.end()
        await router.until(lambda router=router: router.ends)
    words = [message["content"] for message in llm.requests[-1]["messages"] if message["role"] == "user"]
    assert words == ['{"speaker": "张三", "content": "hello"}'] * 2
