"""A service's sound, of whatever kind, to samples as it comes: bytes in, s16le mono out, nothing waits for the end.

Rules
- What is in hand is decoded at once; a piece may end anywhere. Nothing is written to a file, no thread is started.
- Decoding runs where it is called, which is the loop: of MP3 a second of speech takes 1 ms, of Opus 2.5 ms. A big piece
  is taken apart, see `in_parts`.
"""

from __future__ import annotations

from typing import Final

from shared.upstream.faults import Code, UpstreamError
from workers.tts.decoding.decoders import DECODERS, FAULTS, Decoder
from workers.tts.decoding.formats import HEAD_BYTES, Declared, format_of
from workers.tts.decoding.samples import joined

MAX_PIECE_BYTES: Final = 8 * 1024
"""More is fed in parts, with a turn of the loop between them: of MP3 it is 1.4 s of speech."""


def in_parts(piece: bytes) -> list[bytes]:
    """A piece in parts that do not hold up the loop."""
    return [piece[start : start + MAX_PIECE_BYTES] for start in range(0, len(piece), MAX_PIECE_BYTES)]


class SoundDecoder:
    """One stream's: `feed` as pieces come, then `finish` once. Both raise UpstreamError `upstream_malformed`."""

    def __init__(self, known: Declared, rate_hz: int) -> None:
        self._known = known
        self._rate_hz = rate_hz
        self._head = b""
        self._decoder: Decoder | None = None

    def feed(self, piece: bytes) -> bytes:
        """s16le mono at `rate_hz`: what can be told so far, often nothing."""
        if self._decoder is None:
            self._head += piece
            if len(self._head) < HEAD_BYTES:
                return b""
            piece = self._begin()
        return self._decoded(piece)

    def finish(self) -> bytes:
        """What was still held back."""
        piece = self._begin() if self._decoder is None and self._head else b""
        if self._decoder is None:
            return b""
        try:
            return self._decoded(piece) + joined(self._decoder.finish())
        except FAULTS:
            raise _malformed() from None

    def _begin(self) -> bytes:
        kind = format_of(self._head, self._known)
        if kind is None:
            raise _malformed()
        self._decoder = DECODERS[kind](self._known, self._rate_hz)
        head, self._head = self._head, b""
        return head

    def _decoded(self, piece: bytes) -> bytes:
        assert self._decoder is not None
        try:
            return joined(self._decoder.feed(piece))
        except FAULTS:
            raise _malformed() from None


def _malformed() -> UpstreamError:
    return UpstreamError("what it sent is no sound that can be decoded", code=Code.MALFORMED)
