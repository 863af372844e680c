"""The simulated device's rules, each as the firmware has it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.device.effects import Capture, Effect, Play, SendAbort, SendDetect, SendPacket, SendStart, SendStop
from ops.device.firmware import Firmware, Profile, State
from shared.errors import TransitionError
from shared.listening import Mode

pytestmark = pytest.mark.unit

FRAME_S = 0.06


def connected(mode: Mode, profile: Profile | None = None) -> Firmware:
    device = Firmware(mode, profile)
    device.connect(0.0)
    device.connected(0.0)
    return device


def speaking(mode: Mode, profile: Profile | None = None) -> Firmware:
    """In Speaking at 1.1 s, listening since 0."""
    device = connected(mode, profile)
    device.start_listening(0.0)
    if mode == "manual":
        device.stop_listening(0.9)
    device.on_tts_start(1.0)
    device.advance(1.1)
    assert state_of(device) is State.SPEAKING
    return device


def state_of(device: Firmware) -> State:
    """A call, because a type checker takes an attribute for unchanged."""
    return device.state


def without_mic(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Capture)]


def test_audio_right_behind_tts_start_is_lost() -> None:
    """The main loop enters Speaking a little after `tts start`; frames before that are dropped and counted."""
    device = connected("auto")
    device.start_listening(0.0)
    device.on_tts_start(1.0)
    device.on_audio(b"a", 1.01)
    assert (device.counters.outside_frames, device.counters.early_frames) == (1, 1)
    assert device.on_audio(b"b", 1.03) == [Play(b"b", 1.03)]


def test_entering_speaking_clears_the_queue() -> None:
    """`tts stop` and `tts start` in one pass leave Speaking, with an empty queue."""
    device = speaking("auto")
    for number in range(10):
        device.on_audio(bytes([number]), 1.1)
    device.on_tts_stop(1.11)
    device.on_tts_start(1.115)
    device.advance(1.14)
    assert state_of(device) is State.SPEAKING
    assert device.speaker.queued_packets == 0
    assert device.counters.cleared_frames == 9


def test_second_tts_start_clears_nothing() -> None:
    """`tts start` in Speaking is ignored."""
    device = speaking("auto")
    for number in range(5):
        device.on_audio(bytes([number]), 1.1)
    device.on_tts_start(1.11)
    device.advance(1.14)
    assert device.counters.cleared_frames == 0


def test_new_packet_is_dropped_when_queue_is_full() -> None:
    """40 packets wait and 3 are in output; what comes then is lost, what was there is played in order."""
    device = speaking("auto")
    effects: list[Effect] = []
    for number in range(50):
        effects += device.on_audio(bytes([number]), 1.1)
    assert device.counters.overflow_frames == 7
    effects += device.advance(10.0)
    played = [effect.packet[0] for effect in effects if isinstance(effect, Play)]
    assert played == list(range(43))


def test_small_queue_of_old_firmware() -> None:
    """Releases 1.6.0 and 1.6.1 held 5 packets."""
    device = speaking("auto", Profile(decode_queue_packets=5))
    for number in range(10):
        device.on_audio(bytes([number]), 1.1)
    assert device.counters.overflow_frames == 2


def test_playback_is_real_time() -> None:
    """Each packet sounds for its 60 ms behind the one before."""
    device = speaking("auto")
    effects: list[Effect] = []
    for number in range(4):
        effects += device.on_audio(bytes([number]), 1.1)
    effects += device.advance(2.0)
    starts = [effect.at_s for effect in effects if isinstance(effect, Play)]
    assert starts == pytest.approx([1.1, 1.16, 1.22, 1.28])


def test_auto_listens_again_after_playing_out() -> None:
    """`listen start` follows the last sound, not `tts stop`."""
    device = speaking("auto")
    for number in range(5):
        device.on_audio(bytes([number]), 1.1)
    device.on_tts_stop(1.12)
    assert device.advance(1.15)[-1:] == []
    assert state_of(device) is State.LISTENING
    assert device.wake_at_s() == pytest.approx(1.4)
    assert SendStart("auto") not in device.advance(1.39)
    assert SendStart("auto") in device.advance(1.41)
    assert device.is_settled


def test_auto_of_old_firmware_flushes() -> None:
    """Releases 1.8 to 2.1 listen at once and lose the queue."""
    device = speaking("auto", Profile(plays_out=False))
    for number in range(5):
        device.on_audio(bytes([number]), 1.1)
    device.on_tts_stop(1.12)
    assert SendStart("auto") in device.advance(1.15)
    assert device.counters.cleared_frames == 4


def test_next_tts_start_cancels_the_deferred_listen_start() -> None:
    """If the next reply begins while the last one plays out, that turn has no `listen start`."""
    device = speaking("auto")
    for number in range(10):
        device.on_audio(bytes([number]), 1.1)
    device.on_tts_stop(1.12)
    device.advance(1.2)
    device.on_tts_start(1.2)
    assert SendStart("auto") not in device.advance(3.0)
    assert state_of(device) is State.SPEAKING


def test_manual_is_idle_after_tts_stop() -> None:
    """Push-to-talk: the device waits for the button; what is queued plays on."""
    device = speaking("manual")
    for number in range(5):
        device.on_audio(bytes([number]), 1.1)
    device.on_tts_stop(1.12)
    assert len(device.advance(3.0)) == 4
    assert state_of(device) is State.IDLE


def test_realtime_keeps_the_microphone_on() -> None:
    """In realtime the microphone streams through the reply and nothing is sent after `tts stop`."""
    device = speaking("realtime")
    assert device.is_mic_on
    device.on_tts_stop(1.2)
    effects = device.advance(2.0)
    assert effects and set(map(type, effects)) == {Capture}
    assert state_of(device) is State.LISTENING


def test_auto_switches_the_microphone_off_in_speaking() -> None:
    """In auto mode nothing is sent up while the device speaks."""
    device = speaking("auto")
    assert not device.is_mic_on
    assert device.advance(5.0) == []


def test_abort_waits_for_tts_stop() -> None:
    """The device stays in Speaking and plays on until the server stops the reply."""
    device = speaking("auto")
    assert device.abort(1.2) == [SendAbort(None)]
    device.advance(60.0)
    assert state_of(device) is State.SPEAKING
    device.on_audio(b"x", 60.0)
    assert device.counters.after_abort_frames == 1
    device.on_tts_stop(60.1)
    device.advance(60.2)
    assert state_of(device) is State.LISTENING


def test_frames_behind_tts_stop_are_stale() -> None:
    """Audio after `tts stop` belongs to a dead reply, whether or not the device still takes it."""
    device = speaking("auto")
    device.on_audio(b"a", 1.1)
    device.on_tts_stop(1.2)
    device.on_audio(b"b", 1.205)
    device.on_audio(b"c", 1.4)
    assert device.counters.stale_frames == 2
    assert device.counters.outside_frames == 1
    device.on_tts_start(2.0)
    device.on_audio(b"d", 2.1)
    assert device.counters.stale_frames == 2


def test_server_push_in_idle_speaks() -> None:
    """`tts start` wakes an idle device with an open socket; in manual mode it is idle again afterwards."""
    device = connected("manual")
    device.on_tts_start(1.0)
    device.advance(1.1)
    assert state_of(device) is State.SPEAKING
    device.on_tts_stop(1.2)
    device.advance(1.3)
    assert state_of(device) is State.IDLE


def test_messages_while_connecting_are_handled_after_hello() -> None:
    """A greeting right behind the server's hello is heard."""
    device = Firmware("auto")
    device.connect(0.0)
    device.on_tts_start(0.1)
    device.advance(5.0)
    assert state_of(device) is State.CONNECTING
    device.connected(5.0)
    device.advance(5.1)
    assert state_of(device) is State.SPEAKING


def test_wake_word_sends_its_audio_then_detect_then_start() -> None:
    """At most 33 frames in a burst, `detect`, and `start` at once."""
    device = connected("auto")
    effects = device.wake(1.0, "hey", [bytes([n]) for n in range(50)])
    assert [effect.packet[0] for effect in effects if isinstance(effect, SendPacket)] == list(range(17, 50))
    assert effects[33:] == [SendDetect("hey"), SendStart("auto")]


def test_wake_word_in_speaking_aborts_and_listens_after_playout() -> None:
    """The reply is aborted with a reason; `start` comes when the queue has been played."""
    device = speaking("auto")
    for number in range(5):
        device.on_audio(bytes([number]), 1.1)
    assert without_mic(device.wake(1.12, "hey")) == [SendAbort("wake_word_detected")]
    assert SendStart("auto") in device.advance(1.5)


def test_push_to_talk_in_speaking_aborts_and_starts() -> None:
    """The button goes down over a reply: abort, then `start` at once."""
    device = speaking("manual")
    assert device.start_listening(1.2) == [SendAbort(None), SendStart("manual")]


def test_release_sends_stop_and_silences_the_microphone() -> None:
    """The button comes up: `stop`, and not one frame more."""
    device = connected("manual")
    device.start_listening(0.0)
    assert device.stop_listening(0.2)[-1] == SendStop()
    assert device.advance(5.0) == []


def test_microphone_warms_up() -> None:
    """The first frame comes 180 ms after `listen start`, then one every 60 ms."""
    device = connected("auto")
    device.start_listening(0.0)
    assert device.advance(0.179) == []
    assert device.advance(0.181) == [Capture()]
    assert device.advance(0.425) == [Capture()] * 4


def test_lost_socket_leaves_idle_and_plays_on() -> None:
    """What is queued is played after the connection has gone."""
    device = speaking("auto")
    for number in range(3):
        device.on_audio(bytes([number]), 1.1)
    device.disconnected(1.12)
    assert state_of(device) is State.IDLE
    assert len(device.advance(2.0)) == 2


def test_illegal_action_changes_nothing() -> None:
    """`stop` without a held button raises TransitionError and leaves the device as it was."""
    device = connected("auto")
    before = repr(device)
    with pytest.raises(TransitionError):
        device.stop_listening(1.0)
    assert repr(device) == before


@pytest.mark.parametrize(("gap_s", "late"), [(0.060, 0), (0.064, 0), (0.066, 1), (0.2, 1)])
def test_late_is_more_than_65_ms_after_the_frame_before(gap_s: float, late: int) -> None:
    """5 ms of jitter are allowed, whatever the device still holds."""
    device = speaking("auto")
    for _ in range(3):
        device.on_audio(b"a", 1.1)
    device.on_audio(b"b", 1.1 + gap_s)
    assert device.counters.late_frames == late


def test_late_frame_without_an_underrun() -> None:
    """A lead hides a late frame from the ear; it is counted late all the same."""
    device = speaking("auto")
    for _ in range(3):
        device.on_audio(b"a", 1.1)
    device.on_audio(b"b", 1.25)
    device.on_audio(b"c", 1.5)
    assert (device.counters.late_frames, device.counters.underruns) == (2, 1)


def test_gap_between_sentences_is_a_pause() -> None:
    """Waiting for the next sentence's text is not a late frame."""
    device = speaking("auto")
    device.on_sentence_start(1.1)
    device.on_audio(b"a", 1.1)
    device.on_sentence_start(2.0)
    device.on_audio(b"b", 2.0)
    counters = device.counters
    assert (counters.late_frames, counters.underruns, counters.pauses) == (0, 0, 1)


def test_first_frame_of_a_reply_is_never_late() -> None:
    """The time between two replies is nobody's lateness."""
    device = speaking("auto")
    device.on_audio(b"a", 1.1)
    device.on_tts_stop(1.2)
    device.on_tts_start(5.0)
    device.on_audio(b"b", 5.1)
    assert (device.counters.late_frames, device.counters.underruns) == (0, 0)


EVENTS: dict[str, Callable[[Firmware, float], list[Effect]]] = {
    "tts_start": Firmware.on_tts_start,
    "tts_stop": Firmware.on_tts_stop,
    "sentence": Firmware.on_sentence_start,
    "audio": lambda device, now: device.on_audio(b"p", now),
    "burst": lambda device, now: [effect for _ in range(60) for effect in device.on_audio(b"p", now)],
    "press": Firmware.start_listening,
    "release": Firmware.stop_listening,
    "abort": Firmware.abort,
    "wake": lambda device, now: device.wake(now, "hey", [b"w"] * 40),
    "text": lambda device, now: device.type_text(now, "hello"),
    "drop": Firmware.disconnected,
    "connect": Firmware.connect,
    "connected": Firmware.connected,
}


@given(
    mode=st.sampled_from(["auto", "manual", "realtime"]),
    plays_out=st.booleans(),
    walk=st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.floats(0, 0.3)), max_size=60),
)
def test_random_walk(mode: Mode, plays_out: bool, walk: list[tuple[str, float]]) -> None:
    """Whatever happens: every frame is accounted for once, the queue is bounded, sound never overlaps, and the
    microphone is off wherever the firmware has it off."""
    device = connected(mode, Profile(plays_out=plays_out))
    now = 0.0
    effects: list[Effect] = []
    for event, pause_s in walk:
        now += pause_s
        try:
            effects += EVENTS[event](device, now)
        except TransitionError:
            effects += device.advance(now)
        assert device.speaker.queued_packets <= 40
        if device.state in (State.IDLE, State.CONNECTING) or (device.state is State.SPEAKING and mode == "auto"):
            assert not device.is_mic_on
    device.on_tts_stop(now)
    effects += device.advance(now + 60)
    counters = device.counters
    lost = counters.outside_frames + counters.overflow_frames + counters.cleared_frames
    assert counters.frames == counters.played_frames + lost
    assert counters.stale_frames <= counters.frames
    starts = [effect.at_s for effect in effects if isinstance(effect, Play)]
    assert len(starts) == counters.played_frames
    assert all(second - first >= FRAME_S - 1e-9 for first, second in pairwise(starts))
    assert state_of(device) is State.CONNECTING or device.is_settled
