"""The child process of a loaded model: one model, one pipe in, one pipe out, no threads of ours, many utterances.

`python -m workers.asr.engines.model_child MODULE PARENT_PID`, where MODULE has `make_model(options) -> Model`.

The messages are those of `child`, with two differences: BEGIN carries a language or None, and FINAL the text, the
seconds it took to compute and the language that was heard. Rules:
* Utterances are open side by side; what computes for long (a FINISH) takes its turn, first come first served. What has
  arrived meanwhile is read before the next turn, so a CANCEL saves the work it overtakes.
* An utterance that raises fails alone: FAILED names its number and the kind of exception. If the model cannot be made,
  FAILED says so and the child leaves.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from workers.asr.engines.child import Message, Pipe, Word, enter

Heard = tuple[str, str | None]
"""Text and language, if the model tells one."""


class Hearing(Protocol):
    """One utterance. Calls may block as long as they like."""

    def feed(self, pcm: bytes) -> str:
        """16 kHz s16le mono. What is recognised so far; empty if nothing is, or nothing new."""

    def finish(self) -> Heard: ...


class Model(Protocol):
    """What is loaded once."""

    def hear(self, language: str | None) -> Hearing: ...


MakeModel = Callable[[dict[str, Any]], Model]


class Sitting:
    """An utterance that is open."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._compute_s = 0.0
        self._partial = ""

    def feed(self, pcm: bytes) -> str:
        """The partial, if it is a new one."""
        partial: str = self._timed(lambda: self._hearing.feed(pcm))
        if not partial or partial == self._partial:
            return ""
        self._partial = partial
        return partial

    def finish(self) -> tuple[str, float, str | None]:
        text, language = self._timed(self._hearing.finish)
        return text, self._compute_s, language

    def _timed(self, work: Callable[[], Any]) -> Any:
        began_s = time.monotonic()
        result = work()
        self._compute_s += time.monotonic() - began_s
        return result


class Host:
    """Serves all utterances of the model."""

    def __init__(self, pipe: Pipe, model: Model) -> None:
        self._pipe = pipe
        self._model = model
        self._sittings: dict[int, Sitting] = {}

    def serve(self, message: Message) -> None:
        word, utterance, payload = message
        if word == Word.CANCEL:
            self._sittings.pop(utterance, None)
            self._pipe.send(Word.IDLE, utterance)
            return
        try:
            self._work(Word(word), utterance, payload)
        except OSError:
            raise
        except Exception as error:
            self._sittings.pop(utterance, None)
            self._pipe.send(Word.FAILED, utterance, type(error).__name__)

    def _work(self, word: Word, utterance: int, payload: Any) -> None:
        if word == Word.BEGIN:
            self._sittings[utterance] = Sitting(self._model.hear(payload))
        elif utterance not in self._sittings:
            return  # it has failed, which was told
        elif word == Word.PCM:
            if partial := self._sittings[utterance].feed(payload):
                self._pipe.send(Word.PARTIAL, utterance, partial)
        elif word == Word.FINISH:
            self._pipe.send(Word.FINAL, utterance, self._sittings.pop(utterance).finish())


def serve(pipe: Pipe, make_model: MakeModel) -> int:
    """Until the parent closes the pipe; the exit code."""
    try:
        _, _, options = pipe.next()
        try:
            host = Host(pipe, make_model(options))
        except Exception as error:
            pipe.send(Word.FAILED, 0, type(error).__name__)
            return 1
        pipe.send(Word.READY, 0)
        while True:
            host.serve(pipe.next())
    except (EOFError, BrokenPipeError):
        return 0


def load(module_name: str, options: dict[str, Any]) -> Model:
    model: Model = importlib.import_module(module_name).make_model(options)
    return model


def main(module_name: str, parent_pid: int) -> int:
    return serve(enter(module_name, parent_pid), lambda options: load(module_name, options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
