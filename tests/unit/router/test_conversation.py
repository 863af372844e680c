"""Ear and mouth together: the table of events, one row a test, then random walks over everything at once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router import wire
from router.talk.ear import EarState
from router.talk.mouth import MouthState
from shared.ids import Role
from shared.link.messages import (
    CloseAfter,
    Effects,
    EffectsOk,
    Final,
    Input,
    Interrupt,
    OpenAsr,
    OpenSession,
    OpenTts,
    Profile,
    ReplyEnd,
    Segment,
    SpeechEnd,
    SpeechStart,
    Substituted,
    ToDevice,
    TurnOver,
)
from shared.listening import Mode, VadProfile
from shared.settings import RouterSettings
from tests.fakes.world import FRAME, World

pytestmark = pytest.mark.unit

START = {mode: wire.ListenStart(mode) for mode in ("auto", "manual", "realtime")}
STOP, ABORT = wire.ListenStop(), wire.AbortReply("abort")


def listening(mode: Mode = "auto", **features: object) -> World:
    return World().hello(**features).say(START[mode]).frames(10)


def speaking(mode: Mode = "auto", frames: int = 40, **features: object) -> World:
    """A reply of one long segment is being played."""
    world = listening(mode, **features)
    if mode == "manual":
        world.say(STOP)
    world.hears("tell me a story").replies("Once upon a time.", "The end.")
    return world.speaks(frames, finish=False).advance(0.5)


def test_hello_is_answered_once_per_hello_and_restarts_nothing() -> None:
    """A second hello is answered again; the session stream stays."""
    world = World().hello()
    world.say(wire.Hello(1))
    assert world.states() == ["hello", "hello"]
    assert len([key for key in world.ever if key.role == Role.SESSION]) == 1


def test_a_manual_turn_from_start_to_stop() -> None:
    """start, audio, stop: one END, then stt, tts start, emotion, sentence, audio, tts stop, in this order."""
    world = listening("manual")
    asr = world.key(Role.ASR)
    world.say(STOP)
    world.hears("hello").done(asr).smiles().replies("Hi there.").speaks(5).advance(2.0)
    assert world.states() == ["hello", "stt", "start", "llm", "sentence_start", "stop"]
    assert len(world.audio) == 5
    assert world.told[-1] == TurnOver(1, "complete", "played", 1, 0.0)
    assert world.conversation.ear.state == EarState.CLOSED


def test_manual_stop_without_audio_is_no_turn() -> None:
    """A button pressed and let go says nothing."""
    world = World().hello().say(START["manual"]).say(STOP).advance(5.0)
    assert world.gens_begun == [] and world.states() == ["hello"]


def test_an_auto_turn_rearms_the_ear_by_itself() -> None:
    """The browser page never sends `listen start` again: after `tts stop` it is listening."""
    world = listening()
    world.hears("hello").replies("Hi.").speaks(5).advance(2.0)
    assert world.conversation.ear.state == EarState.ARMED
    world.frames(10).hears("again").replies("Yes.").speaks(5).advance(2.0)
    assert (world.starts, world.stops, world.gens_over) == (2, 2, [1, 2])


def test_start_at_every_sentence_leaves_the_reply_alone() -> None:
    """The Linux client sends `start` on every sentence_start: nothing is killed, nothing heard is lost."""
    world = speaking()
    world.say(START["auto"]).say(START["auto"]).advance(0.3)
    assert world.is_speaking and world.stops == 0


def test_start_right_after_detect_does_not_cancel_the_greeting() -> None:
    """The firmware sends `listen start` at once behind `detect`."""
    world = World().hello().say(wire.Detect("hi xiaozhi")).say(START["auto"])
    world.replies("I am here.").speaks(5).advance(2.0)
    assert world.states() == ["hello", "stt", "start", "sentence_start", "stop"]


def test_wake_word_audio_before_detect_is_discarded() -> None:
    """Up to 33 frames of the wake word arrive in a burst before `detect`: they are no utterance."""
    world = World().hello()
    for _ in range(33):
        world.do(world.conversation.audio(FRAME, world.now))
    world.say(wire.Detect("hi")).say(START["auto"])
    assert world.conversation.ear.log.head == 0
    assert not any(key.role == Role.ASR for key in world.ever)


def test_a_client_that_never_says_start_is_heard() -> None:
    """More audio than any wake word opens the ear."""
    world = World().hello().frames(45)
    assert world.conversation.ear.state == EarState.ARMED
    assert len(world.uplink[world.key(Role.ASR)]) == 45


def test_abort_is_answered_by_one_tts_stop_even_in_silence() -> None:
    """A device in Speaking stays there until it gets `tts stop`."""
    world = World().hello().say(ABORT)
    assert world.states() == ["hello", "stop"]


def test_abort_while_speaking_stops_at_once_and_leaves_the_ear_alone() -> None:
    """Same call: tts stop, jobs aborted, turn over with what was played; nothing follows."""
    world = speaking()
    sent = len(world.audio)
    world.say(ABORT)
    assert world.states()[-1] == "stop"
    assert not any(key.role == Role.TTS for key in world.open)
    over = world.told[-1]
    assert isinstance(over, TurnOver) and over.outcome == "interrupted" and over.reason == "abort"
    assert over.played_segments == 0 and 0.0 < over.played_part < 1.0
    world.advance(5.0)
    assert len(world.audio) == sent and world.stops == 1


def test_abort_while_listening_drops_the_utterance_and_rearms() -> None:
    """Firmware sends abort + start when the wake word is said while listening."""
    world = listening().speech_start()
    first = world.key(Role.ASR)
    world.say(ABORT).say(START["auto"])
    assert first not in world.open and world.conversation.ear.state == EarState.ARMED
    world.frames(10).hears("what time is it").replies("Noon.").speaks(3).advance(2)
    assert world.starts == 1


def test_abort_while_recognising_loses_the_transcript() -> None:
    """A final that comes after the abort belongs to a stream that is over."""
    world = listening("manual").say(STOP)
    asr = world.key(Role.ASR)
    world.say(ABORT)
    world.do(world.conversation.stream_event(asr, Final(10, 0, "too late", 600, 1.0).to_map(), world.now))
    assert world.gens_begun == []


def test_abort_while_thinking_kills_the_turn() -> None:
    """Segments of the dead generation are stale."""
    world = listening().hears("hello").say(ABORT)
    assert world.gens_over == [1] and world.stops == 1
    world.replies("too late").advance(1.0)
    assert world.audio == [] and world.counts["stale"] == 2


def test_a_stale_frame_never_reaches_the_device() -> None:
    """Frames of an aborted job are dropped and counted."""
    world = speaking()
    job = world.key(Role.TTS)
    world.say(ABORT)
    sent = len(world.audio)
    world.do(world.conversation.stream_audio(job, b"late", world.now))
    assert len(world.audio) == sent and world.counts["stale"] == 1


def test_detect_with_text_begins_a_turn_and_ends_the_old_one() -> None:
    """Text input of test pages, also while speaking."""
    world = speaking().say(wire.Detect("讲个笑话"))
    assert world.gens_over == [1] and world.input == Input(2, "讲个笑话", "text", "auto")
    assert world.states()[-3:] == ["stop", "stt", "start"]


def test_detect_without_text_only_resets() -> None:
    """Nothing is answered."""
    world = listening().say(wire.Detect(""))
    assert world.gens_begun == [] and world.conversation.ear.state == EarState.ARMED


def test_transcript_interrupts_in_auto() -> None:
    """As today's server behaves: a recognised sentence ends the reply and begins a turn."""
    world = speaking().frames(10).hears("what is the weather")
    assert world.gens_over == [1] and world.input.text == "what is the weather"


def test_speech_alone_does_not_interrupt_in_auto() -> None:
    """Only words do: the device's own echo is in the microphone."""
    world = speaking().frames(10).speech_start().frames(4).speech_held()
    assert world.is_speaking and world.stops == 0


def test_speech_holds_then_kills_in_realtime() -> None:
    """The pacer waits at the first sign of speech and the reply ends when it lasts."""
    world = speaking("realtime").frames(2)
    world.speech_start()
    sent = len(world.audio)
    world.frames(5)
    assert len(world.audio) == sent and world.is_speaking
    world.speech_held()
    assert not world.is_speaking and world.gens_over == [1]


def test_a_cough_only_pauses_the_reply() -> None:
    """No word within 400 ms: the reply goes on and nothing of it is lost."""
    world = speaking("realtime", frames=40).frames(2)
    world.speech_start().advance(0.5)
    sent = len(world.audio)
    world.advance(1.0)
    assert len(world.audio) > sent and world.is_speaking


def test_aec_devices_are_interrupted_by_words_only() -> None:
    """features.aec: the server would have to cancel the echo; until then it is in the microphone."""
    world = speaking("realtime", aec=True).frames(5).speech_start().frames(4).speech_held()
    assert world.is_speaking


def test_interruption_off_ignores_transcripts_while_speaking() -> None:
    """The profile may forbid it."""
    world = World().hello()
    world.event(Role.SESSION, Profile(interruption="off"))
    world.say(START["auto"]).frames(10).hears("hello").replies("A long story.", end=False)
    world.speaks(30, finish=False).frames(5).hears("be quiet")
    assert world.gens_over == [] and world.counts["ignored_transcripts"] == 1


def test_the_devices_own_words_are_no_interruption() -> None:
    """The self-echo guard drops a transcript of what is being spoken."""
    world = speaking().frames(10).hears("once upon a time")
    assert world.gens_over == [] and world.counts["self_echoes"] == 1


def test_an_utterance_heard_while_a_reply_dies_is_a_new_turn() -> None:
    """The generation fences the mouth only."""
    world = speaking("realtime").frames(5).speech_start().frames(4).speech_held()
    assert world.gens_over == [1]
    world.frames(5).event(Role.ASR, SpeechEnd(world.conversation.ear.log.sent, 1, 900))
    world.event(Role.ASR, Final(world.conversation.ear.log.sent, 1, "stop that", 900, 30.0))
    assert world.input.text == "stop that" and world.gens_begun == [1, 2]


def test_manual_start_kills_the_reply() -> None:
    """Push-to-talk while speaking."""
    world = speaking().say(START["manual"])
    assert world.gens_over == [1] and not world.is_speaking


def test_tts_stop_waits_until_the_device_has_played() -> None:
    """Stop = max(schedule, pong + lead) + margin: early, and many clients cut the tail."""
    world = listening().hears("hi").replies("Hello.").speaks(10)
    world.advance(0.55)
    token = world.pings[-1]
    played_at = world.conversation.mouth.pacer.playhead_s
    world.do(world.conversation.pong(token, world.now)).advance(5.0)
    stop_at = world.turns[0]["turn_ms"]
    assert stop_at >= (played_at - 1000.6) * 1000 + 230


def test_without_a_pong_tts_stop_leaves_anyway() -> None:
    """A device that answers no pings is not kept in Speaking."""
    world = listening().hears("hi").replies("Hello.").speaks(10).advance(0.6 + 1.5 + 0.3)
    assert world.stops == 1


def test_sentence_start_leaves_with_its_first_frame() -> None:
    """In play order, not in synthesis order."""
    world = listening().hears("hi").replies("One.", "Two.")
    world.speaks(20)
    world.speaks(20)
    assert world.texts() == []
    world.advance(0.2)
    assert world.texts() == ["One."]
    world.advance(1.5)
    assert world.texts() == ["One.", "Two."]


def test_at_most_two_segments_are_with_workers() -> None:
    """The playing segment and the next."""
    world = listening().hears("hi").replies("One.", "Two.", "Three.")
    assert [body.body.segment for body in world.open.values() if isinstance(body.body, OpenTts)] == [0, 1]


def test_a_played_credit_is_given_back() -> None:
    """Jobs longer than the window need CREDIT."""
    world = listening().hears("hi").replies("Music.").speaks(200, finish=False).advance(6.0)
    assert world.credited >= 2


def test_llm_silence_is_filled_then_apologised_for() -> None:
    """A filler at 4 s, an apology at 15 s, then tts stop."""
    world = listening().hears("hi").advance(4.5)
    assert world.texts() == ["filler en"]
    world.advance(16.0)
    assert world.texts() == ["filler en", "apology en"]
    assert world.stops == 1 and world.turns[0]["outcome"] == "failed"


def test_prompts_speak_the_language_of_the_person() -> None:
    """Chinese in, Chinese apology."""
    world = listening().hears("你好").advance(20.0)
    assert world.texts() == ["filler zh", "apology zh"]


def test_a_dead_tts_worker_costs_no_word() -> None:
    """A segment nobody has heard yet is issued again, whole."""
    world = listening().hears("hi").replies("Hello there.")
    job = world.key(Role.TTS)
    world.lose(job)
    again = world.open[world.key(Role.TTS)]
    assert isinstance(again.body, OpenTts) and again.body.text == "Hello there." and "worker-tts" in again.exclude
    world.speaks(5).advance(2.0)
    assert world.turns[0]["outcome"] == "complete"


def test_a_deterministic_segment_goes_on_where_it_broke_off() -> None:
    """The next worker skips the frames that were received already."""
    world = listening().hears("hi").replies("Hello there.").speaks(20, finish=False).advance(0.3)
    world.lose(world.key(Role.TTS))
    again = world.open[world.key(Role.TTS)].body
    assert isinstance(again, OpenTts) and again.skip_frames == 20


def test_a_stand_in_has_the_time_of_a_first_frame_again() -> None:
    """The worker tells that another engine is asked: it is not late before its own time is over."""
    world = listening().hears("hi").replies("Hello there.").advance(2.5)
    world.event(Role.TTS, Substituted("Other")).advance(2.5)
    assert world.counts.get("turn_timeouts", 0) == 0
    world.speaks(5).advance(2.0)
    assert world.turns[0]["outcome"] == "complete" and world.counts.get("stream_retries", 0) == 0


def test_a_segment_of_a_stand_in_is_not_skipped_in() -> None:
    """The next worker would go on in another voice, elsewhere in the text: what is here is spoken, and no more."""
    world = listening().hears("hi").replies("Hello there.").event(Role.TTS, Substituted("Other"))
    world.speaks(20, finish=False).advance(0.3)
    world.lose(world.key(Role.TTS))
    assert not any(key.role == Role.TTS for key in world.open)
    world.advance(3.0)
    assert len(world.audio) == 20 and world.turns[0]["clipped"] == 1


def test_a_stand_in_is_forgotten_when_the_segment_is_issued_anew() -> None:
    """Nobody had heard it, and the next worker speaks with the engine that was asked for."""
    world = listening().hears("hi").replies("Hello there.").event(Role.TTS, Substituted("Other"))
    world.lose(world.key(Role.TTS))
    world.speaks(20, finish=False).advance(0.3)
    world.lose(world.key(Role.TTS))
    again = world.open[world.key(Role.TTS)].body
    assert isinstance(again, OpenTts) and again.skip_frames == 20


def test_a_stand_in_told_of_behind_the_first_frame_is_stale() -> None:
    """Then it would be two voices in one segment."""
    world = listening().hears("hi").replies("Hello there.").speaks(2, finish=False)
    world.event(Role.TTS, Substituted("Other"))
    assert world.counts["stale"] == 1


def test_a_tts_pool_that_fails_twice_is_apologised_for() -> None:
    """Two errors of a segment nobody heard: say so, and end."""
    world = listening().hears("hi").replies("Hello.")
    for _ in range(2):
        world.lose(world.key(Role.TTS), "engine")
    world.advance(3.0)
    assert world.texts() == ["apology en"] and world.turns[0]["outcome"] == "failed"


def test_no_tts_worker_is_said_to_be_busy() -> None:
    """The canned prompt needs no tts."""
    world = listening().hears("hi").replies("Hello.")
    world.lose(world.key(Role.TTS), "no_worker", retryable=False).advance(3.0)
    assert world.texts() == ["busy en"]


def test_without_a_tts_worker_a_reply_does_not_end_in_silence() -> None:
    """The rest of it would wait in vain as well, segment by segment: say so at the first."""
    world = listening().hears("hi").replies("One.", "Two.", "Three.")
    world.speaks(3)
    world.lose(world.key(Role.TTS), "no_worker", retryable=False).advance(4.0)
    assert world.texts() == ["One.", "busy en"] and world.stops == 1


def test_a_late_segment_is_spoken_by_another_worker() -> None:
    """Who has it may hang, and is not yet known to."""
    world = listening().hears("hi").replies("One.").advance(3.1)
    again = world.open[world.key(Role.TTS)]
    assert "worker-tts" in again.exclude and world.counts["turn_timeouts"] == 1


def test_a_final_that_is_late_is_asked_of_another_worker() -> None:
    """Who has the utterance may hang, and is not yet known to: it is heard again elsewhere, and answered once."""
    world = listening("manual").say(STOP)
    first = world.key(Role.ASR)
    world.advance(3.1)
    second = world.key(Role.ASR)
    assert second != first and "worker-asr" in world.open[second].exclude
    assert world.uplink[second] == world.uplink[first]
    world.hears("hello")
    assert world.gens_begun == [1]


def test_the_time_without_a_recogniser_is_no_delay_of_it() -> None:
    """A pool without a worker is waited for; the deadline of the final begins when there is one."""
    world = listening("manual")
    world.auto_place = False
    world.lose(world.key(Role.ASR)).say(STOP).advance(4.9)
    assert world.texts() == [] and world.conversation.ear.state == EarState.DECIDING
    world.auto_place = True
    world.do([]).advance(2.5)
    assert world.texts() == []
    world.hears("hello")
    assert world.gens_begun == [1]


def test_a_drained_recogniser_costs_no_retry() -> None:
    """A planned death, as often as it comes."""
    world = listening("manual")
    for _ in range(5):
        world.lose(world.key(Role.ASR), "drained")
    world.say(STOP).hears("hello")
    assert world.gens_begun == [1]


def test_a_segment_that_stalls_is_given_up() -> None:
    """2 s without a frame while the device is dry: once more elsewhere, then on without it."""
    world = listening().hears("hi").replies("One.").advance(20.0)
    assert world.stops == 1 and world.turns[0]["outcome"] == "failed"


def test_a_dead_asr_worker_is_replaced_by_replay() -> None:
    """The log is sent again from its trim to another worker, and the answer is the same."""
    world = listening().speech_start()
    first = world.key(Role.ASR)
    world.lose(first)
    second = world.key(Role.ASR)
    opened = world.open[second].body
    assert isinstance(opened, OpenAsr) and "worker-asr" in world.open[second].exclude
    assert opened.position == world.conversation.ear.log.trim == 5
    assert world.uplink[second] == world.uplink[first][5:]
    position = world.conversation.ear.log.sent
    world.event(Role.ASR, SpeechStart(5, 0))
    world.event(Role.ASR, SpeechEnd(position, 0, 500)).event(Role.ASR, Final(position, 0, "hello", 500, 1.0))
    assert world.gens_begun == [1]


def test_a_replays_echo_does_not_answer_twice() -> None:
    """A final that the first worker already gave is ignored from the second."""
    world = listening().hears("hello")
    world.lose(world.key(Role.ASR))
    if not any(key.role == Role.ASR for key in world.open):
        world.frames(1)
    world.event(Role.ASR, Final(9, 0, "hello", 500, 1.0))
    assert world.gens_begun == [1]


@pytest.mark.parametrize("speaker", ["张三", None])
def test_who_spoke_is_told_with_the_words(speaker: str | None) -> None:
    """As the recogniser knows it, also when the words are asked again because the session's worker died."""
    world = listening().speech_start()
    position = world.conversation.ear.log.sent
    final = Final(position, 0, "hello", 500, 1.0, speaker=speaker)
    world.event(Role.ASR, SpeechEnd(position, 0, 500)).event(Role.ASR, final)
    (asked,) = [one for one in world.told if isinstance(one, Input)]
    assert (asked.text, asked.speaker) == ("hello", speaker)
    world.lose(world.key(Role.SESSION))
    opened = world.open[world.key(Role.SESSION)].body
    assert isinstance(opened, OpenSession) and opened.resume == asked


def test_three_deaths_fail_the_utterance_with_an_apology() -> None:
    """Two placements again; then the person hears that it failed."""
    world = listening().speech_start()
    for _ in range(3):
        world.lose(world.key(Role.ASR))
    world.advance(3.0)
    assert world.texts() == ["apology en"] and (world.starts, world.stops) == (1, 1)
    assert world.gens_begun == []


def test_no_final_within_its_deadline_is_a_failure() -> None:
    """3 s after END another worker is asked, as the first may hang; after 3 s more the person is told."""
    world = listening("manual").say(STOP).advance(5.0)
    assert world.texts() == [] and world.counts["stream_retries"] == 1
    world.advance(4.0)
    assert world.texts() == ["apology en"]


def test_two_failed_turns_in_a_row_end_the_connection() -> None:
    """A server that cannot help says so twice and lets the device go."""
    world = listening("manual").say(STOP).advance(10.0)
    world.say(START["manual"]).frames(5).say(STOP).advance(10.0)
    assert world.closed == (1013, "failed_turns")


def test_busy_is_said_once_then_closed() -> None:
    """All recognisers taken: the canned prompt, tts stop, 1013."""
    world = listening("manual").say(STOP)
    world.lose(world.key(Role.ASR), "busy", retryable=False).advance(3.0)
    assert world.texts() == ["busy en"] and world.closed == (1013, "busy")


def test_an_uplink_that_falls_silent_ends_the_utterance() -> None:
    """1.5 s without audio in mid-speech: an end mark in the log, so that a replay agrees."""
    world = listening().speech_start().advance(1.6)
    assert world.uplink[world.key(Role.ASR)][-1] == b""


def test_an_empty_binary_ends_the_utterance_in_manual() -> None:
    """The browser page's end of recording."""
    world = listening("manual")
    world.do(world.conversation.audio(b"", world.now))
    world.hears("hello")
    assert world.gens_begun == [1]


def test_the_ear_waits_for_the_profile_but_not_for_ever() -> None:
    """Frames are kept for 1.5 s; then the defaults serve."""
    world = World().say(wire.Hello(1)).say(START["auto"]).frames(10)
    assert not any(key.role == Role.ASR for key in world.ever)
    world.advance(1.0)
    assert len(world.uplink[world.key(Role.ASR)]) == 10
    assert world.counts["profile_timeouts"] == 1


def test_the_profile_travels_in_open() -> None:
    """Threshold, silence and engine of this device."""
    vad = VadProfile(threshold=0.8, end_silence_ms=900)
    world = World().say(wire.Hello(1))
    world.event(Role.SESSION, Profile(vad=vad, asr_engine="Other")).say(START["auto"]).frames(1)
    opened = world.open[world.key(Role.ASR)]
    assert isinstance(opened.body, OpenAsr) and opened.body.vad == vad and opened.engine == "Other"


def test_a_session_worker_that_dies_before_a_word_was_heard_is_asked_again_elsewhere() -> None:
    """OPEN{resume: input}; nobody notices."""
    world = listening().hears("hello")
    world.lose(world.key(Role.SESSION))
    opened = world.open[world.key(Role.SESSION)].body
    assert isinstance(opened, OpenSession) and opened.resume == Input(1, "hello", "asr", "auto")
    world.replies("Hi.").speaks(3).advance(2.0)
    assert world.turns[0]["outcome"] == "complete" and world.starts == 1


def test_a_session_worker_that_dies_in_mid_reply_is_apologised_for() -> None:
    """What was heard cannot be said again: the rest is an apology."""
    world = listening().hears("hello").replies("Well.", end=False).speaks(10).advance(0.3)
    world.lose(world.key(Role.SESSION)).advance(4.0)
    assert world.texts() == ["Well.", "apology en"] and world.stops == 1


def test_a_complete_reply_survives_its_session_worker() -> None:
    """All text is there: keep speaking."""
    world = speaking()
    world.lose(world.key(Role.SESSION))
    assert world.is_speaking and world.counts["stream_retries"] == 1


def test_effects_are_acknowledged_and_forbid_asking_again() -> None:
    """A turn that has changed something is never done twice."""
    world = listening().hears("turn on the lamp").event(Role.SESSION, Effects(1, 0))
    assert world.told[-1] == EffectsOk(1, 0)
    world.lose(world.key(Role.SESSION)).advance(4.0)
    opened = world.open[world.key(Role.SESSION)].body
    assert isinstance(opened, OpenSession) and opened.resume is None
    assert world.texts() == ["apology en"]


def test_effects_of_a_dead_generation_get_no_answer() -> None:
    """Its tool does not run."""
    world = listening().hears("turn on the lamp").say(ABORT)
    before = len(world.told)
    world.event(Role.SESSION, Effects(1, 0))
    assert len(world.told) == before


def test_close_after_closes_at_tts_stop() -> None:
    """Goodbye is heard to its end."""
    world = listening().hears("goodbye").event(Role.SESSION, CloseAfter(1)).replies("Bye.").speaks(5)
    assert world.closed is None
    world.advance(2.5)
    assert world.closed == (1000, "goodbye") and world.states()[-1] == "stop"


def test_close_after_dies_with_its_generation() -> None:
    """Interrupting the goodbye keeps the line."""
    world = listening().hears("goodbye").event(Role.SESSION, CloseAfter(1)).replies("Bye.").speaks(20)
    world.advance(0.2).say(ABORT).advance(1.0)
    assert world.closed is None


def test_interrupt_of_the_session_needs_the_current_generation() -> None:
    """A stale wish is counted and ignored."""
    world = speaking().event(Role.SESSION, Interrupt(0))
    assert world.is_speaking
    world.event(Role.SESSION, Interrupt(1))
    assert not world.is_speaking


def test_mcp_passes_both_ways_without_a_session_id() -> None:
    """JSON-RPC is the session worker's business."""
    world = World().hello()
    world.event(Role.SESSION, ToDevice({"type": "mcp", "payload": {"id": 1}}))
    assert world.sent[-1] == {"type": "mcp", "payload": {"id": 1}}
    world.say(wire.ForSession({"type": "mcp", "payload": {"id": 1, "result": {}}}))
    assert world.told[-1].to_map()["message"]["payload"]["result"] == {}


def test_no_hello_within_30_s_closes() -> None:
    """A connection that never says who it is for."""
    assert World().advance(31.0).closed == (1000, "no_hello")


def test_silence_is_ended_by_a_farewell() -> None:
    """Audio without a voice for close_connection_no_voice_time: end_prompt, goodbye, tts stop, 1000."""
    world = World(RouterSettings(end_prompt="say bye", no_voice_close_s=10)).hello().say(START["auto"]).frames(180)
    assert world.input.source == "farewell" and world.input.text == "say bye"
    assert "stt" not in world.states()
    world.replies("Bye bye.").speaks(5).frames(50)
    assert world.closed == (1000, "goodbye")


def test_a_silent_idle_device_is_closed_without_a_word() -> None:
    """No audio at all: hard idle 60 s later."""
    world = World().hello().advance(179.0)
    assert world.closed is None
    assert world.advance(2.0).closed == (1000, "idle") and world.starts == 0


def test_talking_resets_the_idle_clock() -> None:
    """A turn counts as activity until its tts stop."""
    world = World(RouterSettings(no_voice_close_s=5, idle_grace_s=2)).hello()
    world.say(START["manual"]).frames(3).say(STOP).hears("hi").replies("Hello.").speaks(5).advance(6.0)
    assert world.closed is None
    world.advance(3.0)
    assert world.closed == (1000, "idle")


def test_overload_fails_the_utterance_with_an_apology() -> None:
    """The worker lags 6 s behind: never drop middle frames, say sorry."""
    world = World(auto_ack=False).hello().say(START["auto"])
    world.frames(120)
    assert world.counts["asr_overloaded"] == 1
    world.advance(3.0)
    assert world.texts() == ["apology en"]


def test_manual_maximum_stops_feeding_and_never_answers_into_a_held_key() -> None:
    """30 s of audio are taken; the rest is dropped and counted until the key is let go."""
    world = World(RouterSettings(vad=VadProfile(max_utterance_ms=1200))).hello().say(START["manual"]).frames(30)
    assert len(world.uplink[world.key(Role.ASR)]) == 20 and world.counts["uplink_dropped"] == 10
    assert world.gens_begun == []


def test_leaving_waits_for_the_turn() -> None:
    """A draining router lets the reply end."""
    world = speaking()
    world.do(world.conversation.leave(1001, "going_away", world.now))
    assert world.closed is None
    world.speaks(0).speaks(2).advance(5.0)
    assert world.closed == (1001, "going_away")


def test_closing_ends_every_stream() -> None:
    """The device is gone: asr and tts aborted, the session told and ended."""
    world = speaking().frames(3)
    world.do(world.conversation.closed(world.now))
    assert [key.role for key in world.open] == [Role.SESSION]
    assert world.gens_over == [1]
    assert world.conversation.next_due(world.now) is None


def test_a_draining_asr_worker_hands_its_ear_over() -> None:
    """As a death, without its cost: the utterance goes on elsewhere."""
    world = listening().speech_start()
    first = world.key(Role.ASR)
    world.do(world.conversation.stream_draining(first, world.now))
    second = world.key(Role.ASR)
    assert second != first and world.uplink[second] == world.uplink[first][5:]


def test_a_draining_session_worker_is_left_at_the_turns_end() -> None:
    """The running turn stays where it is."""
    world = listening().hears("hi")
    first = world.key(Role.SESSION)
    world.do(world.conversation.stream_draining(first, world.now))
    assert world.key(Role.SESSION) == first
    world.replies("Hello.").speaks(3).advance(2.0)
    assert world.key(Role.SESSION) != first


def test_too_long_replies_are_cut_at_64_segments() -> None:
    """Text is bounded: 64 segments or 16 KB a turn."""
    world = listening().hears("hi").replies(*["word."] * 70)
    assert world.counts["reply_truncated"] == 6


def test_no_turn_begins_once_the_line_is_being_closed() -> None:
    """Words that interrupt the busy prompt end it; the close that follows it stands."""
    world = World().hello().frames(40)
    world.lose(world.key(Role.ASR), "busy", retryable=False)
    world.frames(1).hears("hello")
    assert world.closed == (1013, "busy") and world.gens_begun == []
    assert not world.is_speaking and (world.starts, world.stops) == (1, 1)


def test_the_record_of_a_complete_reply_goes_to_the_next_worker() -> None:
    """It never was asked this turn: with the end it gets the input, the text, and how far it was heard."""
    world = speaking()
    world.lose(world.key(Role.SESSION)).say(ABORT)
    record = world.adopted[-1]
    assert record.input == Input(1, "tell me a story", "asr", "auto") and record.is_complete
    assert record.segments == ["Once upon a time.", "The end."]
    assert (record.over.outcome, record.over.played_segments) == ("interrupted", 0) and record.over.played_part > 0
    assert world.written == {1} and len(world.adopted) == 1


def test_the_record_of_a_broken_reply_holds_what_was_heard() -> None:
    """The apology is no part of it."""
    world = listening().hears("hello").replies("Well.", end=False).speaks(10).advance(0.3)
    world.lose(world.key(Role.SESSION)).advance(4.0)
    record = world.adopted[-1]
    assert (record.segments, record.over.played_segments, record.is_complete) == (["Well."], 1, False)
    assert record.over.outcome == "failed" and world.written == {1}


def test_a_turn_asked_again_is_ended_like_any_other() -> None:
    """The worker that was given it in OPEN has it itself: no record."""
    world = listening().hears("hello")
    world.lose(world.key(Role.SESSION)).replies("Hi.").speaks(3).advance(2.0)
    assert world.told[-1] == TurnOver(1, "complete", "played", 1, 0.0)
    assert world.adopted == [] and world.written == {1}


def test_a_turn_that_kills_its_workers_is_not_asked_for_ever() -> None:
    """Each new worker sends its profile and dies of the same input: two chances more, then an apology."""
    world = listening().hears("hello")
    for _ in range(3):
        world.event(Role.SESSION, Profile()).lose(world.key(Role.SESSION))
    world.advance(4.0)
    assert world.texts() == ["apology en"] and world.turns[0]["outcome"] == "failed"


def test_a_filler_does_not_forbid_asking_again() -> None:
    """Only the reply itself cannot be said twice."""
    world = listening().hears("hello").advance(4.5)
    assert world.texts() == ["filler en"]
    world.lose(world.key(Role.SESSION))
    opened = world.open[world.key(Role.SESSION)].body
    assert isinstance(opened, OpenSession) and opened.resume == Input(1, "hello", "asr", "auto")
    world.replies("Hi.").speaks(3).advance(4.0)
    assert world.texts() == ["filler en", "Hi."] and world.turns[0]["outcome"] == "complete"


def test_an_idle_session_is_opened_again_at_the_next_input() -> None:
    """When hundreds lose their worker at once, those that say nothing wait; silence is no input, speech is."""
    for wake in (
        lambda world: world.speech_start(),
        lambda world: world.say(wire.Detect("hi")),
        lambda world: world.say(START["auto"]),
    ):
        world = listening()
        world.lose(world.key(Role.SESSION)).frames(20)
        assert not any(key.role == Role.SESSION for key in world.open)
        wake(world)
        assert [key.role for key in world.open].count(Role.SESSION) == 1


def test_a_session_in_a_turn_takes_its_place_in_the_budget() -> None:
    """It is opened at once, but not with a hundred others in the same moment."""
    world = listening()
    assert not world.open[world.key(Role.SESSION)].is_repin
    world.hears("hello").lose(world.key(Role.SESSION))
    assert world.open[world.key(Role.SESSION)].is_repin


def test_the_epoch_travels_with_the_connection() -> None:
    """The next worker may go on with what this connection has claimed, and with nothing newer."""
    world = listening().claims(7).hears("hello")
    world.lose(world.key(Role.SESSION))
    opened = world.open[world.key(Role.SESSION)].body
    assert isinstance(opened, OpenSession) and opened.epoch == 7


def test_a_superseded_session_ends_its_connection() -> None:
    """A newer connection of the device has won: the reply stops, 1000, and nothing is opened again."""
    world = speaking()
    world.lose(world.key(Role.SESSION), "superseded", retryable=False)
    assert world.closed == (1000, "superseded") and not world.is_speaking
    world.do(world.conversation.closed(world.now)).advance(5.0)
    assert world.counts["superseded"] == 1


def test_a_turn_is_told_again_until_it_is_written() -> None:
    """A worker may die with the turn in its hands: the next one gets the record, once it is written nobody does."""
    world = listening()
    world.auto_commit = False
    world.hears("hello").replies("Hi.").speaks(3).advance(2.0)
    assert world.gens_over == [1] and world.written == set()
    world.lose(world.key(Role.SESSION)).frames(10).hears("again")
    assert world.told[-2:] == [world.adopted[0], Input(2, "again", "asr", "auto")]
    world.commit()
    world.lose(world.key(Role.SESSION))
    assert [record.over.gen for record in world.adopted] == [1] and world.written == {1}


def test_a_draining_worker_leaves_no_turn_behind() -> None:
    """What it has not written yet goes with the session."""
    world = listening().hears("hi")
    world.auto_commit = False
    first = world.key(Role.SESSION)
    world.do(world.conversation.stream_draining(first, world.now))
    world.replies("Hello.").speaks(3).advance(2.0)
    assert world.key(Role.SESSION) != first
    assert [record.over.gen for record in world.adopted] == [1]


def test_a_connection_that_ends_without_a_worker_finds_one_for_its_last_turn() -> None:
    """Worker dead, device gone: the record is still committed, then the stream ends."""
    world = speaking().claims(3)
    world.auto_place = False
    world.lose(world.key(Role.SESSION))
    world.do(world.conversation.closed(world.now))
    waiting = world.key(Role.SESSION)
    world.lose(waiting, "dead")
    world.auto_place = True
    world.do([])
    assert world.key(Role.SESSION) != waiting
    assert world.written == {1} and world.ended == {world.key(Role.SESSION)}


def test_a_connection_that_never_owned_its_device_claims_nothing_at_its_end() -> None:
    """By then the device may be somewhere else, and would be taken from there."""
    world = speaking()
    world.auto_place = False
    world.lose(world.key(Role.SESSION))
    world.do(world.conversation.closed(world.now))
    assert world.counts["turn_records_dropped"] == 1 and not world.open


def test_end_follows_what_a_worker_has_still_to_be_told() -> None:
    """A session that was not placed yet when its device left is told everything first."""
    world = World().hello().claims(3)
    world.auto_place = False
    world.lose(world.key(Role.SESSION)).say(wire.Detect("hi"))
    world.do(world.conversation.closed(world.now))
    assert world.gens_over == [] and world.ended == set()
    world.auto_place = True
    world.do([])
    assert world.written == {1} and world.ended == {world.key(Role.SESSION)}


class Walk(RuleBasedStateMachine):
    """Anything, in any order. The world asserts its rules at every effect."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World().hello()
        self.world.auto_commit = False
        self.dead: list[object] = []

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.3, 1.0, 4.5, 20.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(
        message=st.sampled_from(
            [*START.values(), STOP, ABORT, wire.Detect("hi"), wire.Detect(""), wire.Hello(1), wire.PingText()]
        )
    )
    def say(self, message: wire.Message) -> None:
        if self.world.closed is None:
            self.world.say(message)

    @rule(count=st.integers(1, 30), packet=st.sampled_from([FRAME, FRAME, FRAME, b"", b"\x18"]))
    def talk(self, count: int, packet: bytes) -> None:
        if self.world.closed is None:
            self.world.frames(count, packet)

    @precondition(lambda self: any(key.role == Role.ASR for key in self.world.open))
    @rule(what=st.sampled_from(["start", "held", "final", "empty", "partial"]))
    def recognise(self, what: str) -> None:
        world = self.world
        match what:
            case "start":
                world.speech_start()
            case "held":
                world.speech_held()
            case "partial":
                world.partial("hel")
            case _:
                world.hears("hello" if what == "final" else "")

    @precondition(lambda self: self.world.gens_begun and any(key.role == Role.SESSION for key in self.world.open))
    @rule(texts=st.lists(st.sampled_from(["One.", "Two is longer.", "三。"]), max_size=4), end=st.booleans())
    def reply(self, texts: list[str], end: bool) -> None:
        self.world.replies(*texts, end=end)

    @precondition(lambda self: any(key.role == Role.TTS for key in self.world.open))
    @rule(frames=st.integers(0, 60), finish=st.booleans())
    def speak(self, frames: int, finish: bool) -> None:
        self.world.speaks(frames, finish=finish)

    @precondition(lambda self: any(key.role == Role.TTS for key in self.world.open))
    @rule()
    def substitute(self) -> None:
        self.world.event(Role.TTS, Substituted("Other"))

    @precondition(lambda self: self.world.open)
    @rule(
        data=st.data(),
        cause=st.sampled_from(["dead", "engine", "gap", "busy", "no_worker", "drained", "superseded"]),
        retryable=st.booleans(),
    )
    def lose(self, data: st.DataObject, cause: str, retryable: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.open)))
        retryable = retryable and cause not in ("busy", "no_worker", "superseded")
        self.dead.append(key)
        self.world.lose(key, cause, retryable=retryable)

    @precondition(lambda self: any(key.role == Role.ASR for key in self.world.open))
    @rule()
    def asr_done(self) -> None:
        self.world.done(self.world.key(Role.ASR))

    @rule()
    def write(self) -> None:
        self.world.commit()

    @rule(epoch=st.integers(1, 9))
    def claim(self, epoch: int) -> None:
        if any(key.role == Role.SESSION for key in self.world.open):
            self.world.claims(epoch)

    @precondition(lambda self: self.world.open)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.open)))
        self.world.do(self.world.conversation.stream_draining(key, self.world.now))

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def haunt(self, data: st.DataObject) -> None:
        """A dead stream says something."""
        key = data.draw(st.sampled_from(self.dead))
        conversation, now = self.world.conversation, self.world.now
        before = len(self.world.audio)
        if key.role == Role.TTS:
            self.world.do(conversation.stream_audio(key, b"ghost", now))
        elif key.role == Role.ASR:
            self.world.do(conversation.stream_event(key, Final(10**6, 10**6, "ghost", 1, 1.0).to_map(), now))
        else:
            ghost = Segment(conversation.mouth.generation, 0, "ghost", "ghost")
            self.world.do(conversation.stream_event(key, ghost.to_map(), now))
            self.world.do(conversation.stream_event(key, ReplyEnd(conversation.mouth.generation).to_map(), now))
        assert len(self.world.audio) == before

    @rule()
    def pong(self) -> None:
        if self.world.pings:
            self.world.do(self.world.conversation.pong(self.world.pings[-1], self.world.now))

    @invariant()
    def every_start_has_its_stop(self) -> None:
        world = self.world
        open_replies = int(world.is_speaking)
        assert world.starts - open_replies <= world.stops <= world.starts - open_replies + world.aborts
        assert world.is_speaking == (world.conversation.mouth.state != MouthState.SILENT)

    @invariant()
    def each_turn_is_over_at_most_once(self) -> None:
        world = self.world
        assert len(set(world.gens_over)) == len(world.gens_over)
        assert set(world.gens_over) <= set(world.gens_begun)

    @invariant()
    def no_ghost_was_heard(self) -> None:
        assert not any(packet == b"ghost" for _, packet in self.world.audio)
        assert all(body.text != "ghost" for body in self.world.told if isinstance(body, Input))

    def teardown(self) -> None:
        """Left alone, every walk ends in silence: nothing stays open."""
        world = self.world
        world.advance(200.0)
        assert not world.is_speaking, world.conversation
        assert world.conversation.mouth.state == MouthState.SILENT
        world.do(world.conversation.closed(world.now)).commit()
        lost = world.counts.get("turn_records_dropped", 0)
        assert len(set(world.gens_over) - world.written) <= lost, "a turn that no store ever gets"


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
