"""The child process of a recogniser that computes: one decoder, one pipe in, one pipe out, no threads.

`python -m workers.asr.engines.child MODULE PARENT_PID`, where MODULE has `make_decoder(options) -> Decoder`.

Both pipes carry msgpack arrays [word, utterance, payload]. In: OPTIONS, then BEGIN, PCM, FINISH, CANCEL. Out: READY,
PARTIAL, FINAL (text and the seconds it took to compute), IDLE (the answer to CANCEL), FAILED. Rules:
* What waits behind a piece of audio is read before the next piece is decoded, so a CANCEL is never stuck behind it.
* It dies with its parent: the kernel kills it, and the end of its input ends it too. Ctrl-C and SIGTERM are the
  parent's business; what the parent drains must not lose its recogniser first.
* Standard output belongs to the protocol: whatever a library prints goes nowhere.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Protocol

import msgpack

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
NICENESS = 5
"""Recognising may be late; the loops that answer devices on the same cores may not."""

READ_BYTES = 256 * 1024


class Word(IntEnum):
    OPTIONS = 0
    BEGIN = 1
    PCM = 2
    FINISH = 3
    CANCEL = 4
    READY = 10
    PARTIAL = 11
    FINAL = 12
    IDLE = 13
    FAILED = 14


class Decoder(Protocol):
    """What a child computes with. Calls may block as long as they like."""

    def begin(self) -> None: ...

    def feed(self, pcm: bytes) -> str:
        """What is recognised so far; empty if nothing is, or nothing new."""

    def finish(self) -> str: ...

    def cancel(self) -> None: ...


MakeDecoder = Callable[[dict[str, Any]], Decoder]
Message = tuple[int, int, Any]


class Pipe:
    """The child's two ends."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._unpacker = msgpack.Unpacker(use_list=False)
        self._waiting: deque[Message] = deque()

    def next(self) -> Message:
        """The next message; raises EOFError when the parent is gone."""
        while not self._waiting or self._is_readable():
            data = os.read(self._read_fd, READ_BYTES)
            if not data:
                raise EOFError
            self._unpacker.feed(data)
            self._waiting.extend(self._unpacker)
            self._forget_cancelled()
        return self._waiting.popleft()

    def send(self, word: Word, utterance: int, payload: Any = None) -> None:
        data = memoryview(msgpack.packb((int(word), utterance, payload)))
        while data:
            data = data[os.write(self._write_fd, data) :]

    def _is_readable(self) -> bool:
        return bool(select.select([self._read_fd], [], [], 0)[0])

    def _forget_cancelled(self) -> None:
        cancelled = {utterance for word, utterance, _ in self._waiting if word == Word.CANCEL}
        if cancelled:
            dead = (Word.PCM, Word.FINISH)
            self._waiting = deque(one for one in self._waiting if not (one[1] in cancelled and one[0] in dead))


class Worker:
    """Serves one utterance after the other."""

    def __init__(self, pipe: Pipe, decoder: Decoder) -> None:
        self._pipe = pipe
        self._decoder = decoder
        self._partial = ""
        self._is_open = False
        self._compute_s = 0.0

    def serve(self, message: Message) -> None:
        word, utterance, payload = message
        if word == Word.BEGIN:
            self._partial, self._is_open, self._compute_s = "", True, 0.0
            self._decoder.begin()
        elif word == Word.PCM:
            self._feed(utterance, payload)
        elif word == Word.FINISH:
            self._is_open = False
            began_s = time.monotonic()
            text = self._decoder.finish()
            self._pipe.send(Word.FINAL, utterance, (text, self._compute_s + time.monotonic() - began_s))
        elif word == Word.CANCEL:
            self._cancel()
            self._pipe.send(Word.IDLE, utterance)

    def _cancel(self) -> None:
        if self._is_open:
            self._is_open = False
            self._decoder.cancel()

    def _feed(self, utterance: int, pcm: bytes) -> None:
        began_s = time.monotonic()
        partial = self._decoder.feed(pcm)
        self._compute_s += time.monotonic() - began_s
        if partial and partial != self._partial:
            self._partial = partial
            self._pipe.send(Word.PARTIAL, utterance, partial)


def die_with_parent(parent_pid: int, name: str) -> None:
    """Asks the kernel to kill this process with its parent, and leaves if the parent is already gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(1)


def serve(pipe: Pipe, make_decoder: MakeDecoder) -> int:
    """Until the parent closes the pipe; the exit code. A decoder that raises ends it: its state is unknown then."""
    utterance = 0
    try:
        _, _, options = pipe.next()
        worker = Worker(pipe, make_decoder(options))
        pipe.send(Word.READY, 0)
        while True:
            message = pipe.next()
            utterance = message[1]
            worker.serve(message)
    except (EOFError, BrokenPipeError):
        return 0
    except Exception as error:
        pipe.send(Word.FAILED, utterance, type(error).__name__)
        return 1


def load(module_name: str, options: dict[str, Any]) -> Decoder:
    decoder: Decoder = importlib.import_module(module_name).make_decoder(options)
    return decoder


def enter(module_name: str, parent_pid: int) -> Pipe:
    """Become a recogniser's child: bound to its parent, out of the way of others, standard output the protocol's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(parent_pid, "asr-" + module_name.rpartition(".")[2].removesuffix("_decoder"))
    os.nice(NICENESS)
    write_fd = os.dup(1)
    null_fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_fd, 1)
    os.dup2(null_fd, 2)
    return Pipe(0, write_fd)


def main(module_name: str, parent_pid: int) -> int:
    return serve(enter(module_name, parent_pid), lambda options: load(module_name, options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
