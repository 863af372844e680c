"""The router's canned prompts, as they lie in the package."""

from __future__ import annotations

import numpy as np
import pytest

from ops.make_prompts import TEXTS
from router.talk.prompts import load_prompts, read_prompt, write_prompt
from tests.fakes.tts_stream import decoded
from workers.tts.opus import FRAME_MS

pytestmark = pytest.mark.unit


def test_every_prompt_exists_in_both_languages_with_the_text_it_was_made_from() -> None:
    """A changed sentence whose file was not made again is found here."""
    prompts = load_prompts()
    assert {key: prompt.text for key, prompt in prompts.items()} == TEXTS
    assert {name for name, _ in prompts} == {"busy", "apology", "filler", "goodbye"}
    assert {language for _, language in prompts} == {"en", "zh"}


@pytest.mark.parametrize("key", sorted(TEXTS))
def test_a_prompt_is_short_speech_in_frames_of_60_ms(key: tuple[str, str]) -> None:
    """It decodes as a device decodes it, begins at once and is over soon."""
    prompt = load_prompts()[key]
    sound = decoded(prompt.frames)
    assert 1000 <= len(prompt.frames) * FRAME_MS <= 6000
    assert np.sqrt(np.mean(sound**2)) > 0.02
    assert np.flatnonzero(np.abs(sound) > 0.01)[0] < 24 * 120


def test_a_prompt_file_holds_what_was_written() -> None:
    """Reading is the inverse of writing."""
    prompt = load_prompts()["busy", "zh"]
    assert read_prompt(write_prompt(prompt)) == prompt
