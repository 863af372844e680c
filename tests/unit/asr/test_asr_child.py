"""A recogniser's child, without the process: what it reads, in which order, and what it answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest

from workers.asr.engines.child import Pipe, Word, serve

pytestmark = pytest.mark.unit


Message = tuple[Word, int, Any]


class Ends:
    """The parent's ends of both pipes."""

    def __init__(self) -> None:
        self.child_read, self.write = os.pipe()
        self.read, self.child_write = os.pipe()
        self.pipe = Pipe(self.child_read, self.child_write)
        self.compute_s: list[float] = []
        """Of each FINAL."""

    def send(self, *messages: Message) -> None:
        os.write(self.write, b"".join(msgpack.packb((int(word), number, body)) for word, number, body in messages))

    def answers(self, until: Word, count: int = 1) -> list[Message]:
        """All up to the `count`-th of one kind."""
        unpacker, got = msgpack.Unpacker(use_list=False), []
        while sum(word == until for word, _, _ in got) < count:
            unpacker.feed(os.read(self.read, 65536))
            got += [self._read(Word(word), number, body) for word, number, body in unpacker]
        return got

    def _read(self, word: Word, number: int, body: Any) -> Message:
        if word is Word.FINAL:
            body, compute_s = body
            self.compute_s.append(compute_s)
        return word, number, body


class Decoder:
    """Says how many pieces it was fed, in pairs."""

    def __init__(self) -> None:
        self.fed = self.cancels = 0

    def begin(self) -> None:
        self.fed = 0

    def feed(self, pcm: bytes) -> str:
        if pcm == b"bad":
            raise ValueError("on purpose")
        self.fed += 1
        return "word " * (self.fed // 2)

    def finish(self) -> str:
        return f"fed {self.fed}"

    def cancel(self) -> None:
        self.cancels += 1


@contextmanager
def child(decoder: Decoder) -> Iterator[Ends]:
    """The child's loop in a thread of this process; at the end its parent is gone and it must have left."""
    ends = Ends()
    thread = threading.Thread(target=serve, args=(ends.pipe, lambda options: decoder), name="child", daemon=True)
    thread.start()
    ends.send((Word.OPTIONS, 0, {}))
    assert ends.answers(Word.READY) == [(Word.READY, 0, None)]
    yield ends
    os.close(ends.write)
    thread.join(10)
    assert not thread.is_alive()


def pcm(number: int, count: int) -> list[Message]:
    return [(Word.PCM, number, b"sound")] * count


def test_an_utterance_is_answered_and_partials_come_on_change_only() -> None:
    """One partial for each new text, then the text."""
    with child(Decoder()) as ends:
        ends.send((Word.BEGIN, 7, None), *pcm(7, 5), (Word.FINISH, 7, None))
        assert ends.answers(Word.FINAL) == [
            (Word.PARTIAL, 7, "word "),
            (Word.PARTIAL, 7, "word word "),
            (Word.FINAL, 7, "fed 5"),
        ]
    assert ends.compute_s[-1] >= 0.0


def test_a_cancel_overtakes_the_audio_before_it() -> None:
    """What has not been decoded yet is dropped; another utterance's audio is not."""
    decoder = Decoder()
    with child(decoder) as ends:
        ends.send((Word.BEGIN, 1, None), *pcm(1, 50), (Word.FINISH, 1, None), (Word.CANCEL, 1, None))
        assert ends.answers(Word.IDLE) == [(Word.IDLE, 1, None)]
        ends.send((Word.BEGIN, 2, None), *pcm(2, 3), (Word.FINISH, 2, None))
        assert ends.answers(Word.FINAL) == [(Word.PARTIAL, 2, "word "), (Word.FINAL, 2, "fed 3")]
    assert decoder.cancels == 1


def test_a_cancel_after_the_text_leaves_the_decoder_alone() -> None:
    """The utterance is already over for it."""
    decoder = Decoder()
    with child(decoder) as ends:
        ends.send((Word.BEGIN, 1, None), (Word.FINISH, 1, None))
        ends.answers(Word.FINAL)
        ends.send((Word.CANCEL, 1, None))
        assert ends.answers(Word.IDLE) == [(Word.IDLE, 1, None)]
    assert decoder.cancels == 0


def test_a_decoder_that_raises_names_only_the_kind() -> None:
    """FAILED carries the exception's type, never its message, and the child leaves."""
    with child(Decoder()) as ends:
        ends.send((Word.BEGIN, 3, None), (Word.PCM, 3, b"bad"))
        assert ends.answers(Word.FAILED) == [(Word.FAILED, 3, "ValueError")]


def test_it_leaves_when_its_parent_is_gone() -> None:
    """The end of its input ends it, in the middle of an utterance too."""
    with child(Decoder()) as ends:
        ends.send((Word.BEGIN, 1, None), *pcm(1, 1))
