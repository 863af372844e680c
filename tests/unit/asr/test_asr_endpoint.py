"""Endpointing, as pure decisions on audio time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import TransitionError
from shared.listening import VadProfile
from workers.asr.endpoint import TRANSITIONS, Begun, Decision, Ended, Endpoint, Event, Held, State
from workers.asr.held_key import HeldKey
from workers.asr.timeline import WINDOW_MS, WINDOW_SAMPLES, Timeline, next_window

pytestmark = pytest.mark.unit


@dataclass
class Ear:
    """Feeds an Endpoint frame by frame, as a stream opened at `position` would; windows are known by their place."""

    probabilities: list[float]
    profile: VadProfile = field(default_factory=VadProfile)
    frame_ms: int = 60
    position: int = 0
    utterance: int = 0
    decisions: list[Decision] = field(default_factory=list)
    trims: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.timeline = Timeline(self.position, self.frame_ms)
        self.endpoint = Endpoint(self.profile, self.utterance, self.timeline.end_sample)
        self.next = next_window(self.timeline.end_sample)

    def frame(self) -> None:
        self.timeline.add(self.frame_ms * 16)
        for end in range(self.next + WINDOW_SAMPLES, self.timeline.end_sample + 1, WINDOW_SAMPLES):
            self.next = end
            window = end // WINDOW_SAMPLES - 1
            probability = self.probabilities[window] if window < len(self.probabilities) else 0.0
            at = (self.timeline.position, self.timeline.end_sample)
            self._decide(self.endpoint.on_window(probability, end, *at))
        self._note()

    def mark(self) -> None:
        self.timeline.add_mark()
        self._decide(self.endpoint.on_mark(self.timeline.position, self.timeline.end_sample))
        self.next = next_window(self.timeline.end_sample)
        self._note()

    def run(self, count: int, marks: frozenset[int] = frozenset()) -> Ear:
        for _ in range(count):
            self.mark() if self.timeline.position in marks else self.frame()
        return self

    def of(self, kind: type[Decision]) -> list[Decision]:
        return [one for one in self.decisions if isinstance(one, kind)]

    def _decide(self, decisions: list[Decision]) -> None:
        self.decisions += decisions
        if any(isinstance(one, Ended) for one in decisions):
            self.next = next_window(self.timeline.end_sample)

    def _note(self) -> None:
        self.trims.append(self.timeline.trim(self.endpoint.keep_sample))
        self.numbers.append(self.endpoint.utterance)


def ms(*pieces: tuple[float, int]) -> list[float]:
    """Windows of a probability for so many ms each."""
    return [p for p, duration in pieces for _ in range(duration // WINDOW_MS)]


def frames_of(probabilities: list[float], frame_ms: int = 60) -> int:
    return len(probabilities) * WINDOW_MS // frame_ms


def test_silence_decides_nothing_and_trim_follows() -> None:
    """In silence the frames before pre-roll and settling time are given up."""
    ear = Ear([0.0] * 400).run(200)
    assert ear.decisions == []
    kept_ms = (200 - ear.trims[-1]) * 60
    assert 300 <= kept_ms <= 300 + 10 * WINDOW_MS + 8 * WINDOW_MS + 120


def test_an_utterance_begins_after_min_speech_and_reaches_back() -> None:
    """Three voiced windows begin it; its sound starts a pre-roll before the first of them."""
    ear = Ear(ms((0.0, 2000), (0.9, 1000), (0.0, 1000)))
    ear.run(frames_of(ear.probabilities))
    begun = ear.of(Begun)[0]
    assert isinstance(begun, Begun)
    onset = 2000 // WINDOW_MS * WINDOW_SAMPLES
    assert begun.from_sample == onset - 300 * 16
    assert begun.position == -(-(onset + 3 * WINDOW_SAMPLES) // 960)


def test_it_ends_after_end_silence_on_a_frame_boundary() -> None:
    """500 ms without a voiced window end it; speech_ms counts voiced windows only."""
    ear = Ear(ms((0.0, 960), (0.9, 640), (0.0, 960)))
    ear.run(frames_of(ear.probabilities))
    ended = ear.of(Ended)[0]
    assert isinstance(ended, Ended)
    last_voiced = (960 + 640) // WINDOW_MS * WINDOW_SAMPLES
    assert (ended.reason, ended.speech_ms) == ("silence", 640)
    assert 0 <= ended.position * 960 - (last_voiced + 500 * 16) < WINDOW_SAMPLES + 960


def test_a_click_is_no_utterance() -> None:
    """Two voiced windows among silence begin nothing."""
    ear = Ear(ms((0.0, 640), (0.99, 64), (0.0, 1920)))
    assert ear.run(frames_of(ear.probabilities)).decisions == []


def test_hysteresis_bridges_the_middle() -> None:
    """Between the thresholds a window is what the one before was."""
    speech = ms((0.0, 640), (0.6, 96), (0.4, 1280), (0.0, 1280))
    ear = Ear(speech)
    ear.run(frames_of(speech))
    ended = ear.of(Ended)[0]
    assert isinstance(ended, Ended) and ended.speech_ms == 96 + 1280
    assert Ear(ms((0.4, 3200))).run(50).decisions == []


def test_held_comes_once_and_only_after_400_ms() -> None:
    """A cough never holds; a sentence holds once."""
    cough = Ear(ms((0.0, 640), (0.9, 384), (0.0, 1280)))
    sentence = Ear(ms((0.0, 640), (0.9, 1280), (0.0, 1280)))
    assert cough.run(frames_of(cough.probabilities)).of(Held) == []
    assert len(sentence.run(frames_of(sentence.probabilities)).of(Held)) == 1


def test_maximum_length_forces_an_end_and_the_next_utterance_follows() -> None:
    """Endless speech is cut into utterances that do not overlap."""
    ear = Ear(ms((0.9, 6400)), VadProfile(max_utterance_ms=2000)).run(100)
    begun, ended = ear.of(Begun), ear.of(Ended)
    assert [one.reason for one in ended if isinstance(one, Ended)] == ["length"] * len(ended)
    assert len(ended) >= 2
    for end, after in zip(ended, begun[1:], strict=False):
        assert isinstance(after, Begun) and after.from_sample >= end.position * 960
    assert [one.utterance for one in begun] == list(range(len(begun)))


def test_a_mark_ends_the_utterance_where_it_stands() -> None:
    """An empty packet is a position like any frame; in silence it decides nothing."""
    ear = Ear(ms((0.0, 960), (0.9, 6400))).run(30)
    ear.mark()
    ended = ear.decisions[-1]
    assert isinstance(ended, Ended) and (ended.reason, ended.position) == ("mark", 31)
    assert Ear([]).endpoint.on_mark(1, 0) == []


def test_the_rest_of_the_frame_that_ended_an_utterance_does_not_count() -> None:
    """A voiced window that begins before that frame's end begins nothing: a replay from there would not see it."""
    endpoint = Endpoint(VadProfile(min_speech_ms=32, end_silence_ms=32), 0, 0)
    assert [type(one) for one in endpoint.on_window(0.9, 512, 1, 1920)] == [Begun]
    assert [type(one) for one in endpoint.on_window(0.0, 1024, 1, 1920)] == [Ended]
    assert endpoint.on_window(0.9, 1536, 1, 1920) == []
    assert [type(one) for one in endpoint.on_window(0.9, 2560, 2, 3840)] == [Begun]


def test_the_end_of_the_stream_ends_an_open_utterance() -> None:
    """END yields an Ended for what has begun, and nothing is accepted afterwards."""
    ear = Ear(ms((0.9, 6400))).run(10)
    assert [type(one) for one in ear.endpoint.on_end(10, 9600)] == [Ended]
    with pytest.raises(TransitionError):
        ear.endpoint.on_window(0.9, 10 * 960, 11, 11 * 960)
    assert ear.endpoint.state is State.CLOSED


def test_an_event_not_in_the_table_changes_nothing() -> None:
    """Every state takes exactly the events of its rows."""
    for state in State:
        for event in (Event.MARK, Event.END):
            if (state, event) in TRANSITIONS:
                continue
            endpoint = Endpoint(VadProfile(), 0, 0)
            endpoint.state = state
            with pytest.raises(TransitionError):
                endpoint.on_mark(1, 960) if event is Event.MARK else endpoint.on_end(1, 960)
            assert endpoint.state is state


stretches = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.31, 0.4, 0.49, 0.5, 0.7, 0.99]), st.integers(1, 25)), min_size=1, max_size=25
)


@settings(max_examples=300, deadline=None)
@given(
    stretches=stretches,
    cut=st.integers(0, 10_000),
    frame_ms=st.sampled_from([20, 40, 60]),
    marks=st.frozensets(st.integers(1, 300), max_size=3),
    profile=st.builds(
        VadProfile,
        end_silence_ms=st.sampled_from([200, 500, 1000]),
        min_speech_ms=st.sampled_from([32, 96, 400]),
        pre_roll_ms=st.sampled_from([0, 300]),
        max_utterance_ms=st.sampled_from([1500, 30_000]),
    ),
)
def test_a_replay_from_a_trim_point_decides_the_same(
    stretches: list[tuple[float, int]], cut: int, frame_ms: int, marks: frozenset[int], profile: VadProfile
) -> None:
    """Cut anywhere, open elsewhere at the trim position, send the same frames: same decisions at the same positions."""
    probabilities = [p for p, count in stretches for _ in range(count)]
    total = max(1, len(probabilities) * WINDOW_MS // frame_ms)
    cut %= total
    first = Ear(probabilities, profile, frame_ms).run(total, marks)
    trim = first.trims[cut]
    second = Ear(probabilities, profile, frame_ms, position=trim, utterance=first.numbers[cut])
    second.run(total - trim, marks)
    after = cut + 1
    assert [one for one in second.decisions if one.position > after] == [
        one for one in first.decisions if one.position > after
    ]
    assert set(second.decisions) <= set(first.decisions)


@given(stretches=stretches)
def test_begun_and_ended_alternate(stretches: list[tuple[float, int]]) -> None:
    """Utterances never overlap, their numbers count up, trim never goes back."""
    ear = Ear([p for p, count in stretches for _ in range(count)])
    ear.run(max(1, frames_of(ear.probabilities)))
    turns = [one for one in ear.decisions if not isinstance(one, Held)]
    assert all(isinstance(one, Begun if n % 2 == 0 else Ended) for n, one in enumerate(turns))
    assert [one.utterance for one in turns] == [n // 2 for n in range(len(turns))]
    assert ear.trims == sorted(ear.trims)


def test_a_held_key_is_one_utterance_until_released() -> None:
    """It begins with the first frame, says nothing at its maximum length, and ends only with the stream."""
    key = HeldKey(1000, 4, 0)
    decisions = [one for n in range(1, 40) for one in key.on_frame(n, n * 960)]
    assert decisions == [Begun(1, 4, 0)]
    assert not key.is_feeding
    ended = key.on_end(39)
    assert (ended.utterance, ended.reason, ended.position) == (4, "end", 39)
    assert 1000 <= ended.speech_ms < 1060
    with pytest.raises(TransitionError):
        key.on_frame(40, 40 * 960)


# An upstream that owns the end of speech


def told_ear(*pieces: tuple[float, int]) -> Ear:
    ear = Ear(ms(*pieces))
    ear.endpoint.owner = "upstream"
    return ear


def test_silence_ends_nothing_that_is_an_upstreams_to_end() -> None:
    """But for the net: an upstream that never says it holds an utterance up for three seconds of silence."""
    ear = told_ear((0.0, 960), (0.9, 640), (0.0, 2000))
    ear.run(frames_of(ear.probabilities))
    assert ear.of(Ended) == []
    ear.run(2000 // 60)
    assert [one.reason for one in ear.of(Ended) if isinstance(one, Ended)] == ["silence"]


def test_the_longest_utterance_stays_the_longest() -> None:
    """Whoever owns the end."""
    ear = Ear(ms((0.0, 960), (0.9, 3000)), VadProfile(max_utterance_ms=1200))
    ear.endpoint.owner = "upstream"
    ear.run(frames_of(ear.probabilities))
    assert [one.reason for one in ear.of(Ended) if isinstance(one, Ended)] == ["length", "length"]


def test_what_an_upstream_says_ends_the_utterance_at_the_last_frame() -> None:
    """Position and number are those of our own end."""
    ear = told_ear((0.0, 960), (0.9, 640), (0.0, 300))
    ear.run(frames_of(ear.probabilities))
    position = ear.timeline.position
    decisions = ear.endpoint.on_told(None, position, ear.timeline.end_sample)
    assert decisions == [Ended(position, 0, 640, "upstream")]
    assert (ear.endpoint.utterance, ear.endpoint.keep_sample) == (1, ear.timeline.end_sample)


def test_an_owner_that_leaves_hands_the_end_back() -> None:
    """A local engine takes over: the silence that has passed already counts."""
    ear = told_ear((0.0, 960), (0.9, 640), (0.0, 1500))
    ear.run(frames_of(ear.probabilities))
    assert ear.of(Ended) == []
    ear.endpoint.owner = "own"
    ear.frame()
    assert [one.reason for one in ear.of(Ended) if isinstance(one, Ended)] == ["silence"]


@pytest.mark.parametrize("late_ms", [0, 60, 120])
def test_sound_behind_the_place_that_an_upstream_names_is_the_next_ones(late_ms: int) -> None:
    """Somebody who speaks on before the upstream's word is here loses nothing of it."""
    ear = told_ear((0.0, 960), (0.9, 640), (0.0, 480), (0.9, 960))
    cut_ms = 960 + 640 + 300
    while ear.timeline.end_sample < (960 + 640 + 480 + late_ms) * 16:
        ear.frame()
    at = (ear.timeline.position, ear.timeline.end_sample)
    assert [type(one) for one in ear.endpoint.on_told(cut_ms * 16, *at)] == [Ended]
    ear.run(6)
    second = ear.of(Begun)[-1]
    assert isinstance(second, Begun)
    assert second.utterance == 1
    assert second.position > at[0]
    onset_sample = (960 + 640 + 480) // WINDOW_MS * WINDOW_SAMPLES
    assert max(cut_ms * 16, onset_sample - 300 * 16) <= second.from_sample <= onset_sample
    assert second.from_sample >= ear.endpoint.sound_sample - 300 * 16


def test_an_upstream_cannot_reach_back_further_than_sound_is_kept() -> None:
    """A place of long ago, or of the future, is put where it can be."""
    ear = told_ear((0.0, 960), (0.9, 9000))
    ear.run(frames_of(ear.probabilities))
    kept, frame_end = ear.endpoint.sound_sample, ear.timeline.end_sample
    for place, expected in ((0, kept), (frame_end + 99_999, frame_end)):
        other = told_ear((0.0, 960), (0.9, 9000))
        other.run(frames_of(other.probabilities))
        other.endpoint.on_told(place, other.timeline.position, frame_end)
        assert other.endpoint.keep_sample == expected


def test_an_upstream_cannot_end_what_has_not_begun() -> None:
    """The caller knows whose utterance it was."""
    ear = told_ear((0.0, 960)).run(10)
    with pytest.raises(TransitionError):
        ear.endpoint.on_told(None, ear.timeline.position, ear.timeline.end_sample)
    assert ear.endpoint.state is State.QUIET
