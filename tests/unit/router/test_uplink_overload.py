"""A conversation under load: endless speech, a socket that takes nothing, pools without room, credit that is a lie."""

from __future__ import annotations

import pytest

from router import wire
from router.talk.ear import EarState
from shared.ids import Role
from shared.link.messages import AsrCredit
from shared.listening import VadProfile
from shared.settings import RouterSettings
from tests.fakes.world import World

pytestmark = pytest.mark.unit

START = {mode: wire.ListenStart(mode) for mode in ("auto", "manual", "realtime")}
STOP = wire.ListenStop()
HOUR_FRAMES = 60 * 60 * 1000 // 60


# Speaking for an hour


def test_an_hour_of_speech_is_many_utterances_and_a_small_log() -> None:
    """The worker ends an utterance at its maximum; what it no longer needs is forgotten."""
    world = World(RouterSettings(no_voice_close_s=10_000)).hello().say(START["realtime"])
    log, most = world.conversation.ear.log, 0.0
    for _ in range(HOUR_FRAMES // 500):
        world.frames(499).hears("and so on").replies("Yes.").speaks(3).frames(1)
        most = max(most, log.kept_ms)
    assert most <= 31_000 and log.size_bytes < 200_000
    assert world.advance(2.0).counts["turns"] == HOUR_FRAMES // 500
    assert "asr_overloaded" not in world.counts and world.closed is None


def test_an_hour_of_a_held_key_is_thirty_seconds() -> None:
    """The rest is counted and goes nowhere; the answer comes when the key is let go."""
    world = World().hello().say(START["manual"]).frames(HOUR_FRAMES)
    assert len(world.uplink[world.key(Role.ASR)]) == 500
    assert world.counts["uplink_dropped"] == HOUR_FRAMES - 500
    assert world.conversation.ear.log.size_bytes < 200_000 and world.starts == 0
    world.say(STOP).hears("I have held it").replies("Good.").speaks(3).advance(3.0)
    assert world.texts() == ["Good."]


@pytest.mark.parametrize("mode", ["auto", "realtime"])
def test_a_worker_six_seconds_behind_fails_the_utterance_as_a_whole(mode: str) -> None:
    """Up to then every frame is kept, and none in the middle is missing."""
    world = World(auto_ack=False).hello().say(START[mode])
    world.frames(100)
    assert world.conversation.ear.log.head == 100 and "asr_overloaded" not in world.counts
    world.frames(1)
    assert world.counts["asr_overloaded"] == 1 and world.counts["utterances_failed"] == 1
    assert world.conversation.ear.log.size_bytes == 0
    assert world.advance(3.0).texts() == ["apology en"]


def test_an_overload_under_a_held_key_is_told_when_it_is_let_go() -> None:
    """Nobody is answered while they hold the key; what they go on saying is counted."""
    world = World(auto_ack=False).hello().say(START["manual"]).frames(150)
    assert world.counts["asr_overloaded"] == 1 and world.counts["uplink_dropped"] == 49
    assert world.starts == 0 and "utterances_failed" not in world.counts
    world.say(STOP).advance(3.0)
    assert world.counts["utterances_failed"] == 1 and world.texts() == ["apology en"]
    world.auto_ack = True
    world.say(START["manual"]).frames(10).say(STOP).hears("again").replies("Yes.").speaks(3).advance(2.0)
    assert world.texts()[-1] == "Yes."


@pytest.mark.parametrize("message", [START["manual"], wire.AbortReply("user"), wire.Detect("hello there", None)])
def test_a_failure_under_a_held_key_is_void_with_its_utterance(message: wire.Message) -> None:
    """Whoever begins anew is not told what became of the old."""
    world = World(auto_ack=False).hello().say(START["manual"]).frames(150).say(message)
    if world.conversation.ear.state != EarState.CLOSED:
        world.say(STOP)
    world.advance(1.0)
    assert "utterances_failed" not in world.counts


def test_the_end_of_a_stalled_key_is_told_too() -> None:
    """A recogniser that is lost for good before the key is let go: one apology, after it."""
    world = World().hello().say(START["manual"]).frames(10)
    for _ in range(3):
        world.lose(world.key(Role.ASR))
    assert world.starts == 0
    world.frames(5).say(STOP).advance(3.0)
    assert (world.starts, world.stops) == (1, 1) and world.texts() == ["apology en"]


# A socket that takes nothing


def speaking(frames: int = 100) -> World:
    world = World().hello().say(START["auto"]).frames(10)
    return world.hears("tell me").replies("A long story.").speaks(frames).advance(1.0)


def test_a_device_that_reads_nothing_for_a_while_loses_no_frame() -> None:
    """Nothing is sent meanwhile, whatever the timers do; then everything comes, in order."""
    world = speaking()
    before = len(world.audio)
    assert 0 < before < 100
    world.conversation.blocked(world.now)
    world.advance(2.9)
    assert len(world.audio) == before and world.closed is None
    world.do(world.conversation.unblocked(world.now)).advance(10.0)
    assert len(world.audio) == 100 and world.turns[-1]["outcome"] == "complete"


def test_an_abort_holds_while_nothing_is_read() -> None:
    """`tts stop` is written in that instant, and no frame of the reply behind it."""
    world = speaking()
    world.conversation.blocked(world.now)
    before = len(world.audio)
    world.advance(2.0).say(wire.AbortReply("user"))
    assert world.states()[-1] == "stop"
    world.do(world.conversation.unblocked(world.now)).advance(5.0)
    assert len(world.audio) == before and world.turns[-1]["outcome"] == "interrupted"


def test_nobody_who_falls_silent_sends_into_a_blocked_socket() -> None:
    """Holding for somebody who speaks ends after 400 ms; the socket is a reason of its own."""
    world = World().hello().say(START["realtime"]).frames(10)
    world.hears("tell me").replies("A long story.").speaks(100).advance(1.0)
    world.frames(5).speech_start()
    world.conversation.blocked(world.now)
    before = len(world.audio)
    world.advance(2.0)
    assert len(world.audio) == before


def test_a_device_that_reads_nothing_for_long_is_let_go() -> None:
    """3 s in one piece: closed with 1013, once; in silence too."""
    for world in (speaking(), World().hello()):
        world.conversation.blocked(world.now)
        world.advance(2.99)
        assert world.closed is None
        world.advance(0.02)
        assert world.closed == (1013, "slow_device")
        world.advance(60.0)


# Pools without room


@pytest.mark.parametrize("role", [Role.ASR, Role.SESSION, Role.TTS])
def test_a_pool_without_room_is_busy_once_then_closed(role: Role) -> None:
    """Whichever pool it is: one canned prompt when the person has spoken, then 1013."""
    world = World().hello().say(START["manual"]).frames(10)
    if role == Role.ASR:
        world.lose(world.key(Role.ASR), "busy", retryable=False).frames(5)
        assert world.starts == 0
        world.say(STOP)
    else:
        world.say(STOP).hears("what now")
        if role == Role.TTS:
            world.replies("One thing.")
        world.lose(world.key(role), "busy", retryable=False)
    world.advance(3.0)
    assert world.texts() == ["busy en"] and world.closed == (1013, "busy")
    assert (world.starts, world.stops) == (1, 1)


@pytest.mark.parametrize("cause", ["full", "asr_busy"])
def test_workers_that_refuse_again_and_again_are_busy_too(cause: str) -> None:
    """Their refusals may be retried elsewhere; what is said in the end is the same."""
    world = World().hello().say(START["manual"]).frames(10)
    for _ in range(2):
        world.lose(world.key(Role.ASR), cause)
    world.say(STOP).advance(3.0)
    assert world.texts() == ["busy en"] and world.closed == (1013, "busy")


def test_voices_that_refuse_again_and_again_are_busy_too() -> None:
    """A reply of one sentence that no worker has room for."""
    world = World().hello().say(START["manual"]).frames(10).say(STOP).hears("what now").replies("One thing.")
    for _ in range(2):
        world.lose(world.key(Role.TTS), "full")
    world.advance(3.0)
    assert world.texts() == ["busy en"] and world.closed == (1013, "busy")


def test_a_pool_that_is_gone_is_apologised_for_and_the_connection_lives() -> None:
    """It comes back; the second failure in a row ends it."""
    world = World().hello()
    for turn in (1, 2):
        world.say(START["manual"]).frames(10).lose(world.key(Role.ASR), "no_worker", retryable=False)
        world.say(STOP).advance(3.0)
        assert world.texts() == ["busy en"] * turn
        assert world.closed == (None if turn == 1 else (1013, "failed_turns"))


# Workers that lie about credit


@pytest.mark.parametrize("credit", [AsrCredit(1_000, 0), AsrCredit(5, 1_000), AsrCredit(2, 4)])
def test_a_credit_that_cannot_be_is_counted_and_bounded(credit: AsrCredit) -> None:
    """No cursor overtakes what was sent; what was not processed is not forgotten."""
    world = World(auto_ack=False).hello().say(START["manual"]).frames(10)
    world.do(world.conversation.stream_credit(world.key(Role.ASR), credit.to_map(), world.now))
    log = world.conversation.ear.log
    assert world.counts["credit_violations"] == 1
    assert log.trim <= log.acked <= log.sent == log.head == 10
    world.frames(5).say(STOP).hears("all of it").replies("Yes.").speaks(3).advance(2.0)
    assert world.texts() == ["Yes."]


def test_frames_beyond_the_window_end_the_job() -> None:
    """The router's queue is bounded by what it allowed: what is there is spoken, the stream is aborted, once."""
    world = World().hello().say(START["manual"]).frames(10).say(STOP).hears("hi").replies("Hello.")
    key = world.key(Role.TTS)
    world.speaks(300, finish=False)
    assert key not in world.open and world.counts["credit_violations"] == 1
    assert world.conversation.mouth.buffered_frames <= 257
    world.advance(30.0)
    assert len(world.audio) == 257 and world.turns[-1]["clipped"] == 1
    assert (world.starts, world.stops) == (1, 1)


def test_a_maximum_of_its_own_holds() -> None:
    """The profile's, not a constant."""
    world = World(RouterSettings(vad=VadProfile(max_utterance_ms=1200))).hello().say(START["manual"]).frames(100)
    assert world.counts["uplink_dropped"] == 80
