"""The queue and the thread that writes the log."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.log.metrics import LOG_DROPPED
from shared.log.writer import THREAD_NAME, DescriptorSink, FileSink, LogWriter

pytestmark = pytest.mark.unit

WAIT_S = 20.0
"""Deadline of things that happen at once; only a failing test waits so long."""


class GateSink:
    """Takes lines only while its gate is open; says when the first write has reached it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.gate = threading.Event()
        self.reached = threading.Event()
        self.fault: Exception | None = None
        self.closed = False

    def write(self, lines: list[str]) -> None:
        self.reached.set()
        self.gate.wait()
        if self.fault:
            raise self.fault
        self.lines += lines

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sink() -> Iterator[GateSink]:
    sink = GateSink()
    yield sink
    sink.gate.set()


def writer_to(sink: GateSink, queue_lines: int) -> LogWriter:
    writer = LogWriter(sink, queue_lines, lambda lost: f"lost {lost}")
    writer.start()
    return writer


def blocked(sink: GateSink, queue_lines: int) -> LogWriter:
    """A writer whose thread is stuck in its first write, with an empty queue."""
    writer = writer_to(sink, queue_lines)
    writer.put("first")
    assert sink.reached.wait(WAIT_S)
    return writer


def test_lines_are_written_in_order(sink: GateSink) -> None:
    """One thread, one queue."""
    sink.gate.set()
    writer = writer_to(sink, 1000)
    for number in range(500):
        writer.put(str(number))
    assert writer.flush(WAIT_S)
    assert sink.lines == [str(number) for number in range(500)]


def test_the_thread_has_a_name(sink: GateSink) -> None:
    """Every thread of a process can be told apart."""
    writer = writer_to(sink, 10)
    assert THREAD_NAME in [thread.name for thread in threading.enumerate()]
    sink.gate.set()
    assert writer.close(WAIT_S)


def test_a_blocked_output_costs_lines_and_nothing_else(sink: GateSink) -> None:
    """The queue's worth is kept, the rest is counted; put returns although nothing is written."""
    counted = LOG_DROPPED._value.get()
    writer = blocked(sink, 10)
    for number in range(25):
        writer.put(str(number))
    assert writer.dropped == 15
    assert LOG_DROPPED._value.get() == counted + 15


def test_the_log_says_how_many_lines_are_missing(sink: GateSink) -> None:
    """Once, with the first lines that get through again."""
    writer = blocked(sink, 2)
    for number in range(5):
        writer.put(str(number))
    sink.gate.set()
    assert writer.flush(WAIT_S)
    writer.put("later")
    assert writer.close(WAIT_S)
    assert sink.lines == ["first", "lost 3", "0", "1", "later"]


def test_an_output_that_fails_loses_its_lines(sink: GateSink) -> None:
    """A full disk or a closed pipe ends neither the thread nor the process."""
    sink.fault = OSError(28, "No space left on device")
    sink.gate.set()
    writer = writer_to(sink, 10)
    writer.put("a")
    assert writer.flush(WAIT_S)
    assert writer.dropped == 1
    sink.fault = None
    writer.put("b")
    assert writer.close(WAIT_S)
    assert sink.lines == ["b", "lost 1"]


def test_close_writes_what_is_queued(sink: GateSink) -> None:
    """Nothing that was accepted is lost at an orderly end."""
    writer = blocked(sink, 100)
    for number in range(50):
        writer.put(str(number))
    sink.gate.set()
    assert writer.close(WAIT_S)
    assert len(sink.lines) == 51
    assert sink.closed


def test_close_gives_up_at_its_deadline(sink: GateSink) -> None:
    """A pipe that nobody reads does not hold the process; later lines are counted as lost."""
    writer = blocked(sink, 100)
    assert not writer.close(0.01)
    writer.put("late")
    assert writer.dropped == 1


def test_a_line_may_come_from_a_destructor(sink: GateSink) -> None:
    """put is reentrant: the garbage collector may run in the middle of another put."""
    sink.gate.set()
    writer = writer_to(sink, 1000)

    class Dying:
        def __del__(self) -> None:
            writer.put("destroyed")

    for _ in range(100):
        writer.put("alive")
        Dying()
    assert writer.close(WAIT_S)
    assert sink.lines.count("destroyed") == 100


def test_a_pipe_without_reader_only_loses_lines() -> None:
    """supervisord may die before its children."""
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(DescriptorSink(writing), 10, lambda lost: f"lost {lost}")
    writer.start()
    writer.put("a")
    assert writer.close(WAIT_S)
    assert writer.dropped == 1
    os.close(writing)


def test_a_non_blocking_pipe_gets_every_line() -> None:
    """Another process may have made the shared descriptor non-blocking; a full pipe then is no error."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = [f"{number:04d}" + "x" * 1000 for number in range(300)]
    writer = LogWriter(DescriptorSink(writing), 1000, lambda lost: f"lost {lost}")
    writer.start()
    for line in lines:
        writer.put(line)
    with os.fdopen(reading, "r") as file:
        assert [file.readline().rstrip("\n") for _ in lines] == lines
    assert writer.close(WAIT_S)
    os.close(writing)


def test_a_file_is_rotated_at_its_size(tmp_path: Path) -> None:
    """No more than the given number of old files stays."""
    sink = FileSink(tmp_path / "asr-0.log", max_bytes=1000, backups=2)
    for number in range(50):
        sink.write([f"{number:04d}" + "x" * 95])
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asr-0.log", "asr-0.log.1", "asr-0.log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert (tmp_path / "asr-0.log").read_text().splitlines()[-1].startswith("0049")


def test_a_file_moved_away_is_opened_anew(tmp_path: Path) -> None:
    """logrotate needs to tell nobody."""
    path = tmp_path / "asr-0.log"
    sink = FileSink(path, max_bytes=0, backups=0)
    sink.write(["one"])
    path.rename(tmp_path / "old")
    sink.write(["two"])
    sink.close()
    assert (tmp_path / "old").read_text() == "one\n"
    assert path.read_text() == "two\n"


def test_text_that_is_no_unicode_is_written_escaped(tmp_path: Path) -> None:
    """A device may send half a surrogate pair."""
    sink = FileSink(tmp_path / "log", max_bytes=0, backups=0)
    sink.write(["a\ud800b"])
    sink.close()
    assert (tmp_path / "log").read_text() == "a\\ud800b\n"
