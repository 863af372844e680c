"""The sine voice: a text with a mark sounds as that mark, and failures come as often as they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import EngineError
from shared.marks import Mark, mark_of
from workers.tts.engine import Later
from workers.tts.engines.sine import SineEngine

pytestmark = pytest.mark.unit


def heard(engine: SineEngine, text: str) -> Mark | None:
    parts = [part for part in engine.synthesise(text, None, None, 0) if not isinstance(part, Later)]
    return mark_of(np.concatenate(parts), engine.sample_rate)


def test_the_last_mark_of_a_text_is_heard() -> None:
    """Across the borders of chunks; without the option, or without a mark, there is none."""
    old, new = Mark(3, 4), Mark(3, 5)
    text = f"You said {old.word} and {new.word}."
    assert heard(SineEngine("s", {"marks": True, "chunk_ms": 130}), text) == new
    assert heard(SineEngine("s", {"marks": True}), "You said nothing.") is None
    assert heard(SineEngine("s", {}), text) is None


def test_every_nth_text_fails() -> None:
    """The others are spoken."""
    engine = SineEngine("s", {"fail": "raise", "fail_every": 3})
    outcomes = []
    for _ in range(6):
        try:
            heard(engine, "hello")
            outcomes.append(True)
        except EngineError:
            outcomes.append(False)
    assert outcomes == [True, True, False] * 2
