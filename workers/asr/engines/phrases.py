"""A small language model of the sentences people say to a device, and whether it may overrule free speech.

Rules: it may only answer with one of its sentences, word for word, and only if its path through the audio is clearly
better than that of free speech. What is not one of the sentences is never bent into one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pocketsphinx.lm import ArpaBoLM

LOG_BASE = 1.0001
"""Of the decoder's scores."""

MARGIN_PER_FRAME = 4.0
"""Score by which a sentence must be better, per 10 ms. Its sentences, spoken, are better by 5 to 20; others that share
words with them come out as no sentence at all."""

UNSEEN_MASS = 0.1
"""Probability left for word orders that are in no sentence. With the library's 0.5, "what time is set" beats "what time
is it"; with none, everything would be bent into a sentence."""

PLAIN_REPEATS = 3
"""A sentence counts as much as three of a sentence's numbers, or numbers would be all the model knows."""


def builtin_phrases() -> dict[str, Any]:
    text = resources.files("workers.asr.engines").joinpath("phrases_en.yaml").read_text("utf-8")
    phrases: dict[str, Any] = yaml.safe_load(text)
    return phrases


def sentences(phrases: Iterable[str], numbers: Iterable[str]) -> list[str]:
    """Every sentence, as often as it counts."""
    counted: list[str] = []
    for phrase in phrases:
        if "<number>" in phrase:
            counted += [phrase.replace("<number>", number) for number in numbers]
        else:
            counted += [phrase] * PLAIN_REPEATS
    return counted


class Phrases:
    """The sentences whose words the dictionary knows."""

    def __init__(self, counted: list[str], is_known: Callable[[str], bool]) -> None:
        known = {word: is_known(word) for sentence in counted for word in sentence.split()}
        self._counted = [one for one in counted if all(known[word] for word in one.split())]
        self._sentences = frozenset(self._counted)

    def __bool__(self) -> bool:
        return bool(self._sentences)

    @property
    def words(self) -> list[str]:
        return sorted({word for sentence in self._sentences for word in sentence.split()})

    def write_model(self, path: Path) -> None:
        """The n-gram model, in ARPA format."""
        model = ArpaBoLM(text="\n".join(self._counted), add_start=True, discount_mass=UNSEEN_MASS)
        model.compute()
        model.write_file(str(path))

    def is_better(self, sentence: str, score: float, free_score: float, frames: int) -> bool:
        """Whether `sentence` is what was said. Scores are likelihoods as the decoder gives them, 0 = none."""
        if sentence not in self._sentences or score <= 0.0:
            return False
        if free_score <= 0.0:
            return True
        gain = (math.log(score) - math.log(free_score)) / math.log(LOG_BASE)
        return gain >= MARGIN_PER_FRAME * frames
