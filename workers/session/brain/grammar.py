"""Which of the few things it knows a sentence asks for, in one language.

Rules
- hassil's templates decide; they take lower case, no punctuation, and numbers as digits or words.
- A recogniser makes small errors: a sentence that no template matches is compared with all sentences the templates
  stand for, and a near one counts, unless it would change something.
- Everything is compiled when it is loaded; a match takes a few milliseconds at most, so it may run on the event loop.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import yaml
from hassil import Intents, recognize
from hassil.sample import sample_sentence
from rapidfuzz import fuzz, process

from workers.session.language import Tongue, is_ideograph

MAX_SENTENCE_CHARS: Final = 100
_NEAR: Final = 84.0
"""Of 100: one wrong letter in a short sentence, or one short word in a longer one."""
_MIN_NEAR_CHARS: Final = {"en": 8, "zh": 4}
_MAX_SAMPLES_PER_TEMPLATE: Final = 400
_CHANGING: Final = ("Volume", "Brightness", "Goodbye")
_EDGES: Final = " \t\r\n.,!?;:。，！？；：、~…\"'“”‘’"
_DROPPED: Final = str.maketrans(dict.fromkeys('。，！？；：、!?;:,"“”…', " "))


@dataclass(frozen=True, slots=True)
class Match:
    intent: str
    percent: int | None = None


class Grammar:
    """One language's templates and answers."""

    def __init__(self, tongue: Tongue) -> None:
        source = files("workers.session.brain").joinpath(f"{tongue}.yaml").read_text(encoding="utf-8")
        document: dict[str, Any] = yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.answers: dict[str, list[str]] = document.pop("answers")
        self._tongue: Tongue = tongue
        self._intents = Intents.from_dict(document)
        self._skip_words = sorted(document["skip_words"], key=len, reverse=True)
        self._near = self._samples()
        self.match("set volume to fifty percent" if tongue == "en" else "音量调到五十")  # builds the table of numbers

    def __repr__(self) -> str:
        return f"Grammar({self._tongue!r}, {len(self._near)} sentences)"

    def match(self, sentence: str) -> Match | None:
        text = self._normal(sentence)
        if not text or len(text) > MAX_SENTENCE_CHARS:
            return None
        found = recognize(text, self._intents, language=self._tongue)
        if found is None:
            return self._nearest(text)
        percent = found.entities.get("percent")
        return Match(found.intent.name, None if percent is None else int(percent.value))

    def _nearest(self, text: str) -> Match | None:
        text = self._without_skip_words(text)
        if len(text) < _MIN_NEAR_CHARS[self._tongue] or any(char.isdigit() for char in text):
            return None
        best = process.extractOne(text, self._near.keys(), scorer=fuzz.ratio, score_cutoff=_NEAR)
        return None if best is None else Match(self._near[best[0]])

    def _samples(self) -> dict[str, str]:
        samples: dict[str, str] = {}
        for intent in self._intents.intents.values():
            if intent.name.startswith(_CHANGING):
                continue
            for data in intent.data:
                for sentence in data.sentences:
                    texts = sample_sentence(sentence, {}, self._intents.expansion_rules, self._tongue)
                    for text in itertools.islice(texts, _MAX_SAMPLES_PER_TEMPLATE):
                        samples.setdefault(self._normal(text), intent.name)
        return samples

    def _normal(self, sentence: str) -> str:
        text = " ".join(sentence.translate(_DROPPED).lower().replace("’", "'").strip(_EDGES).split())
        if self._tongue == "zh":
            text = "".join(char for n, char in enumerate(text) if char != " " or not _is_between(text, n))
        return text

    def _without_skip_words(self, text: str) -> str:
        gap = " " if self._tongue == "en" else ""
        padded = f"{gap}{text}{gap}"
        for word in self._skip_words:
            padded = padded.replace(f"{gap}{word}{gap}", gap)
        return padded.strip() or text


def _is_between(text: str, n: int) -> bool:
    """Is the space at `n` between ideographs, where it means nothing?"""
    return is_ideograph(text[n - 1]) or (n + 1 < len(text) and is_ideograph(text[n + 1]))
