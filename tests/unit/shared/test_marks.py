"""A mark survives its word, a voice over it, and Opus in both directions."""

from __future__ import annotations

import numpy as np
import opuslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.device.opus import encode_speech
from shared.marks import NUMBERS, Mark, mark_of, marks_in, sound_of
from tests.fakes.speech import say
from workers.tts.opus import OpusEncoder

pytestmark = pytest.mark.unit

MARKS = st.builds(Mark, st.integers(0, NUMBERS - 1), st.integers(0, NUMBERS - 1))


@given(MARKS)
def test_a_word_names_its_mark(mark: Mark) -> None:
    """Also between other words, behind a capital and before a full stop."""
    assert marks_in(f"You said {mark.word}, {mark.word.title()}.") == [mark, mark]
    assert marks_in("remarkable marks") == []


@given(MARKS)
@settings(max_examples=20, deadline=None)
def test_every_frame_of_an_answer_names_its_mark(mark: Mark) -> None:
    """As the tts worker encodes it and a device decodes it, frame by frame."""
    packets = list(OpusEncoder(5).encode(sound_of(mark, 0, 24_000, 24_000, 0.1)))
    decoder = opuslib.Decoder(24_000, 1)
    heard = [mark_of(np.frombuffer(decoder.decode(packet, 1440), np.int16), 24_000) for packet in packets]
    assert heard == [mark] * len(packets)


@given(MARKS)
@settings(max_examples=10, deadline=None)
def test_a_mark_is_heard_through_a_voice(mark: Mark) -> None:
    """A person's sentence with the tones over it, as a microphone encodes it."""
    voice = say("could you please tell me about the weather")
    tones = sound_of(mark, 0, len(voice), 16_000, 0.05)
    packets = encode_speech(np.clip(voice + 32767 * tones, -32767, 32767).astype(np.int16)).packets
    decoder = opuslib.Decoder(16_000, 1)
    heard = np.concatenate([np.frombuffer(decoder.decode(packet, 960), np.int16) for packet in packets])
    assert mark_of(heard, 16_000) == mark


def test_no_mark_is_heard_where_there_is_none() -> None:
    """A voice alone, silence, one tone, and a tone between two numbers."""
    time_s = np.arange(1440) / 24_000
    assert mark_of(say("could you please tell me about the weather"), 16_000) is None
    assert mark_of(np.zeros(960, np.int16), 16_000) is None
    assert mark_of(np.zeros(0, np.int16), 16_000) is None
    assert mark_of(np.sin(2 * np.pi * 4000 * time_s), 24_000) is None
    both = np.sin(2 * np.pi * 4012.5 * time_s) + np.sin(2 * np.pi * 5800 * time_s)
    assert mark_of(both, 24_000) is None
