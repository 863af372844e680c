"""The pocketsphinx decoder of a child process."""

from __future__ import annotations

from typing import Any

import pocketsphinx

from workers.asr.timeline import RATE_HZ

PARTIAL_BYTES = RATE_HZ * 2 // 4
"""A hypothesis is asked for every quarter of a second of audio."""


class SphinxDecoder:
    """One utterance at a time; each starts from the same state, so it does not depend on who spoke before."""

    def __init__(self, options: dict[str, Any]) -> None:
        # The second pass (fwdflat) multiplies the time after the last word by six and gains nothing on commands.
        self._decoder = pocketsphinx.Decoder(samprate=RATE_HZ, loglevel="FATAL", fwdflat=False, **options)
        self._mean = self._decoder.get_cmn(False)
        self._since_partial = 0
        self._warm_up()

    def begin(self) -> None:
        self._decoder.set_cmn(self._mean)
        self._decoder.start_utt()
        self._since_partial = 0

    def feed(self, pcm: bytes) -> str:
        self._decoder.process_raw(pcm)
        self._since_partial += len(pcm)
        if self._since_partial < PARTIAL_BYTES:
            return ""
        self._since_partial = 0
        return self._text()

    def finish(self) -> str:
        self._decoder.end_utt()
        return self._text()

    def cancel(self) -> None:
        self._decoder.end_utt()

    def _text(self) -> str:
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr.strip() if hypothesis else ""

    def _warm_up(self) -> None:
        self.begin()
        self.feed(bytes(RATE_HZ))
        self.finish()


def make_decoder(options: dict[str, Any]) -> SphinxDecoder:
    return SphinxDecoder(options)
