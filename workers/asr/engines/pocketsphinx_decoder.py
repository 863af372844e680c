"""The pocketsphinx decoder of a child process: free speech, and beside it the sentences of `phrases`.

Each utterance starts from the same state, so what is heard does not depend on who spoke before.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pocketsphinx import Decoder

from workers.asr.engines.phrases import Phrases, builtin_phrases, sentences
from workers.asr.timeline import RATE_HZ

PARTIAL_BYTES = RATE_HZ * 2 // 4
"""A hypothesis is asked for every quarter of a second of audio."""

SPHINX_FRAME_BYTES = RATE_HZ * 2 // 100


class Search:
    """One decoder and its utterance."""

    def __init__(self, **options: Any) -> None:
        # The second pass (fwdflat) multiplies the time after the last word and gains nothing on short sentences.
        self._decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL", fwdflat=False, **options)
        self._mean = self._decoder.get_cmn(False)

    def begin(self) -> None:
        self._decoder.set_cmn(self._mean)
        self._decoder.start_utt()

    def feed(self, pcm: bytes) -> None:
        self._decoder.process_raw(pcm)

    def end(self) -> None:
        self._decoder.end_utt()

    def best(self) -> tuple[str, float]:
        """The words and how likely the path is; 0 = nothing was found."""
        hypothesis = self._decoder.hyp()
        return (hypothesis.hypstr.strip(), hypothesis.best_score) if hypothesis else ("", 0.0)

    def pronunciations(self, word: str) -> list[str]:
        """As the dictionary has them, the first one without a number."""
        found = []
        name = word
        while (phones := self._decoder.lookup_word(name)) is not None:
            found.append(f"{name} {phones}")
            name = f"{word}({len(found) + 1})"
        return found


class SphinxDecoder:
    """Both searches hear the same audio; the small one costs a tenth of the large one."""

    def __init__(self, options: dict[str, Any]) -> None:
        asked = options.pop("phrases", None)
        self._free = Search(**options)
        builtin = builtin_phrases()
        counted = sentences(builtin["phrases"] if asked is None else asked, builtin["numbers"])
        self._phrases = Phrases(counted, lambda word: bool(self._free.pronunciations(word)))
        self._searches = [self._free]
        if self._phrases:
            self._searches.append(self._small_search(options))
        self._fed_bytes = self._next_partial = 0
        self._warm_up()

    def begin(self) -> None:
        for search in self._searches:
            search.begin()
        self._fed_bytes, self._next_partial = 0, PARTIAL_BYTES

    def feed(self, pcm: bytes) -> str:
        for search in self._searches:
            search.feed(pcm)
        self._fed_bytes += len(pcm)
        if self._fed_bytes < self._next_partial:
            return ""
        self._next_partial = self._fed_bytes + PARTIAL_BYTES
        return self._free.best()[0]

    def finish(self) -> str:
        self.cancel()
        text, free_score = self._free.best()
        for small in self._searches[1:]:
            sentence, score = small.best()
            if self._phrases.is_better(sentence, score, free_score, self._fed_bytes // SPHINX_FRAME_BYTES):
                return sentence
        return text

    def cancel(self) -> None:
        for search in self._searches:
            search.end()

    def _small_search(self, options: dict[str, Any]) -> Search:
        """With the phrases' words only: the whole dictionary again would cost memory for nothing."""
        with tempfile.TemporaryDirectory(prefix="xz-asr-") as directory:
            model, words = Path(directory, "phrases.lm"), Path(directory, "phrases.dict")
            self._phrases.write_model(model)
            lines = [line for word in self._phrases.words for line in self._free.pronunciations(word)]
            words.write_text("\n".join(lines) + "\n", "utf-8")
            return Search(**options | {"lm": str(model), "dict": str(words), "bestpath": False})

    def _warm_up(self) -> None:
        self.begin()
        self.feed(bytes(RATE_HZ))
        self.finish()


def make_decoder(options: dict[str, Any]) -> SphinxDecoder:
    return SphinxDecoder(options)
