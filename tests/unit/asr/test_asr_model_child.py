"""A model's child, without the process: many utterances side by side, and what each is answered."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest

from workers.asr.engines.child import Pipe, Word
from workers.asr.engines.model_child import serve

pytestmark = pytest.mark.unit

Message = tuple[Word, int, Any]


class Counting:
    """A model that counts what it was asked; its hearings say what they were fed."""

    def __init__(self) -> None:
        self.finished: list[str] = []

    def hear(self, language: str | None) -> Heard:
        if language == "bad":
            raise LookupError("on purpose")
        return Heard(self, language)


class Heard:
    def __init__(self, model: Counting, language: str | None) -> None:
        self._model = model
        self._language = language
        self._text = ""

    def feed(self, pcm: bytes) -> str:
        if pcm == b"bad":
            raise ValueError("on purpose")
        self._text += pcm.decode()
        return self._text.removesuffix("-")

    def finish(self) -> tuple[str, str | None]:
        self._model.finished.append(self._text)
        return self._text, self._language


class Ends:
    """The parent's ends of both pipes."""

    def __init__(self) -> None:
        self._child_read, self._write = os.pipe()
        self._read, child_write = os.pipe()
        self.pipe = Pipe(self._child_read, child_write)

    def send(self, *messages: Message) -> None:
        os.write(self._write, b"".join(msgpack.packb((int(word), number, body)) for word, number, body in messages))

    def answers(self, *until: Word) -> list[Message]:
        """All, until so many of these kinds have come in any order."""
        unpacker, got, wanted = msgpack.Unpacker(use_list=False), list[Message](), list(until)
        while wanted:
            unpacker.feed(os.read(self._read, 65536))
            for word, number, body in unpacker:
                got.append((Word(word), number, body[::2] if word == Word.FINAL else body))
                if word in wanted:
                    wanted.remove(Word(word))
        return got

    def leave(self) -> None:
        os.close(self._write)


@contextmanager
def child(model: Counting, *before: Message) -> Iterator[Ends]:
    """Its loop in a thread of this process; all of `before` waits for it when it begins."""
    ends = Ends()
    ends.send((Word.OPTIONS, 0, {}), *before)
    thread = threading.Thread(target=serve, args=(ends.pipe, lambda options: model), name="child", daemon=True)
    thread.start()
    yield ends
    ends.leave()
    thread.join(10)
    assert not thread.is_alive()


def test_utterances_are_heard_side_by_side() -> None:
    """Each has its own sound, partials on change only, text and language."""
    with child(Counting()) as ends:
        ends.send((Word.BEGIN, 1, "en"), (Word.BEGIN, 2, None), (Word.PCM, 1, b"a"), (Word.PCM, 2, b"x"))
        ends.send((Word.PCM, 1, b"-"), (Word.FINISH, 2, None), (Word.FINISH, 1, None))
        assert ends.answers(Word.FINAL, Word.FINAL)[1:] == [
            (Word.PARTIAL, 1, "a"),
            (Word.PARTIAL, 2, "x"),
            (Word.FINAL, 2, ("x", None)),
            (Word.FINAL, 1, ("a-", "en")),
        ]


def test_a_cancel_saves_the_work_that_it_overtakes() -> None:
    """What has arrived is read before the next piece of work; another utterance's is done."""
    model = Counting()
    cancelled = [(Word.BEGIN, 1, None), (Word.PCM, 1, b"no"), (Word.FINISH, 1, None)]
    kept = [(Word.BEGIN, 2, None), (Word.PCM, 2, b"yes"), (Word.FINISH, 2, None)]
    with child(model, *cancelled, *kept, (Word.CANCEL, 1, None)) as ends:
        answers = ends.answers(Word.FINAL, Word.IDLE)
    assert model.finished == ["yes"]
    assert answers[1:] == [(Word.PARTIAL, 2, "yes"), (Word.FINAL, 2, ("yes", None)), (Word.IDLE, 1, None)]


@pytest.mark.parametrize("bad", [[(Word.BEGIN, 1, "bad")], [(Word.BEGIN, 1, None), (Word.PCM, 1, b"bad")]])
def test_an_utterance_that_raises_fails_alone(bad: list[Message]) -> None:
    """It is told the kind of exception, never the message, and once; what still comes for it is ignored."""
    with child(Counting()) as ends:
        ends.send((Word.BEGIN, 2, None), *bad, (Word.PCM, 1, b"more"), (Word.FINISH, 1, None))
        ends.send((Word.PCM, 2, b"x"), (Word.FINISH, 2, None))
        answers = ends.answers(Word.FINAL)
    failed = [(number, body) for word, number, body in answers if word is Word.FAILED]
    assert failed == [(1, "LookupError" if len(bad) == 1 else "ValueError")]
    assert answers[-1] == (Word.FINAL, 2, ("x", None))


def test_a_cancel_is_always_answered() -> None:
    """Also of an utterance that has ended or that nobody knows."""
    with child(Counting()) as ends:
        ends.send((Word.BEGIN, 1, None), (Word.FINISH, 1, None), (Word.CANCEL, 1, None), (Word.CANCEL, 9, None))
        answers = ends.answers(Word.IDLE, Word.IDLE)
    assert [number for word, number, _ in answers if word is Word.IDLE] == [1, 9]


def test_a_model_that_cannot_be_made_says_so_and_leaves() -> None:
    """With the kind of exception; there is no READY."""

    def make(options: dict[str, Any]) -> Counting:
        raise FileNotFoundError("a path")

    ends = Ends()
    ends.send((Word.OPTIONS, 0, {}))
    assert serve(ends.pipe, make) == 1
    assert ends.answers(Word.FAILED) == [(Word.FAILED, 0, "FileNotFoundError")]
    ends.leave()
