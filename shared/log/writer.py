"""Writes log lines from one thread of its own: a blocked terminal, a full pipe or a slow disk delays nobody else.

Rules: `put` never waits and is safe in signal handlers and destructors; when the queue is full the new line is dropped
and counted, and the first line that gets through afterwards says how many are missing. Closing waits for the queue up
to a deadline and then leaves the thread behind: it is a daemon, so a pipe that nobody reads cannot hold the process.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from shared.log.metrics import LOG_DROPPED, LOG_QUEUED

THREAD_NAME = "log-writer"

_BATCH_LINES = 64
_POLL_MS = 500
_JOIN_S = 0.1


class Sink(Protocol):
    """Where lines end up. Called by the writer thread only; may block, may raise OSError or ValueError."""

    def write(self, lines: list[str]) -> None: ...

    def close(self) -> None: ...


class DescriptorSink:
    """An open file descriptor, standard error as a rule; it is not ours to close."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, lines: list[str]) -> None:
        rest = memoryview(_encoded(lines))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Another process with the same terminal may have made it non-blocking.
                self._wait()

    def close(self) -> None:
        pass

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(_POLL_MS)


class FileSink:
    """A file rotated at a size; one that was moved away or deleted is opened anew."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self._path = path
        self._file = _Rotating(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", delay=True)
        self._file.setFormatter(logging.Formatter("%(message)s"))

    def write(self, lines: list[str]) -> None:
        if self._is_gone():
            self._file.close()
        for line in lines:
            self._file.emit(logging.makeLogRecord({"msg": _encodable(line)}))

    def close(self) -> None:
        self._file.close()

    def _is_gone(self) -> bool:
        stream = self._file.stream
        if stream is None:
            return False
        try:
            return not os.path.samestat(os.fstat(stream.fileno()), self._path.stat())
        except FileNotFoundError:
            return True


class _Rotating(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Let the writer count the loss instead of printing a traceback."""
        raise  # noqa: PLE0704 (called inside an except block)


class LogWriter:
    """The queue and its thread. `describe_loss` renders the line that tells how many lines are missing."""

    def __init__(self, sink: Sink, queue_lines: int, describe_loss: Callable[[int], str]) -> None:
        self._sink = sink
        self._queue_lines = queue_lines
        self._describe_loss = describe_loss
        # SimpleQueue.put is reentrant, unlike Queue.put: a destructor or a signal handler may log.
        self._queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        LOG_QUEUED.set_function(self._queue.qsize)
        self._dropped = 0
        self._told = 0
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were never written."""
        return self._dropped

    def put(self, line: str) -> None:
        """Hand over one line. Never waits."""
        if self._is_closing or self._queue.qsize() >= self._queue_lines:
            self._lose(1)
        else:
            self._queue.put(line)

    def flush(self, deadline_s: float) -> bool:
        """Wait until every line handed over so far is written; False if that took longer."""
        mark = threading.Event()
        self._queue.put(mark)
        return mark.wait(deadline_s)

    def close(self, deadline_s: float = 1.0) -> bool:
        """Write what is queued and stop. False if the output was blocked until the deadline."""
        if self._is_closing:
            return not self._thread.is_alive()
        self._is_closing = True
        self.flush(deadline_s)
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def _lose(self, count: int) -> None:
        self._dropped += count
        LOG_DROPPED.inc(count)

    def _run(self) -> None:
        while True:
            lines, marks = self._take()
            self._write(lines)
            for mark in marks:
                mark.set()
            if self._is_closing and self._queue.empty():
                break
        self._sink.close()

    def _take(self) -> tuple[list[str], list[threading.Event]]:
        """At least one entry of the queue, and what else is there, up to a batch or a mark."""
        item = self._queue.get()
        lines: list[str] = []
        while isinstance(item, str):
            lines.append(item)
            if len(lines) >= _BATCH_LINES:
                return lines, []
            try:
                item = self._queue.get_nowait()
            except Empty:
                return lines, []
        return lines, [item]

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        try:
            self._sink.write(lines)
        except (OSError, ValueError):
            self._lose(len(lines))
            return
        self._tell_loss()

    def _tell_loss(self) -> None:
        missing = self._dropped - self._told
        if not missing:
            return
        self._told += missing
        try:
            self._sink.write([self._describe_loss(missing)])
        except (OSError, ValueError):
            self._lose(1)


def _encodable(line: str) -> str:
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def _encoded(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
