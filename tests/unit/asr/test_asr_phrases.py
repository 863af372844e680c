"""The embedded recogniser's sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.asr.engines.phrases import MARGIN_PER_FRAME, Phrases, builtin_phrases, sentences
from workers.session.brain.grammar import Grammar

pytestmark = pytest.mark.unit


def phrases(*known: str) -> Phrases:
    return Phrases(["what time is it", "tell me a joke"], lambda word: not known or word in known)


def test_only_a_whole_sentence_may_overrule(tmp_path: Path) -> None:
    """And only if it is clearly better than free speech."""
    frames, free = 200, 1e-20
    better = free * 1.0001 ** (MARGIN_PER_FRAME * frames + 1)
    hardly = free * 1.0001 ** (MARGIN_PER_FRAME * frames - 10)
    assert phrases().is_better("what time is it", better, free, frames)
    assert not phrases().is_better("what time is it", hardly, free, frames)
    assert not phrases().is_better("what time is", better, free, frames)
    assert not phrases().is_better("", better, free, frames)
    assert not phrases().is_better("what time is it", 0.0, free, frames)
    assert phrases().is_better("what time is it", better, 0.0, frames)


def test_sentences_with_unknown_words_are_left_out() -> None:
    """A word without a pronunciation would stop the decoder from loading."""
    some = phrases("what", "time", "is", "it")
    assert some.words == ["is", "it", "time", "what"]
    assert not Phrases(["xyzzy"], lambda word: False)


def test_numbers_are_filled_in() -> None:
    """A sentence for each number; a plain sentence counts several times."""
    counted = sentences(["set volume to <number>", "hello"], ["ten", "twenty"])
    assert counted == ["set volume to ten", "set volume to twenty", "hello", "hello", "hello"]


def test_the_offline_brain_knows_every_builtin_phrase() -> None:
    """What is easiest to recognise is what can be answered without a language model."""
    builtin, grammar = builtin_phrases(), Grammar("en")
    spoken = dict.fromkeys(sentences(builtin["phrases"], ["fifty", "twenty five"]))
    assert [sentence for sentence in spoken if grammar.match(sentence) is None] == []


def test_the_model_is_an_arpa_file(tmp_path: Path) -> None:
    """With the words of the sentences and nothing else."""
    phrases().write_model(tmp_path / "model.lm")
    text = (tmp_path / "model.lm").read_text()
    assert "\\1-grams:" in text and "joke" in text and "ngram 1=10" in text
