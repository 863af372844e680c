"""The way of a remote engine's sound: bytes to samples, and the tasks that read."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tts.remote import Int16Stream, RemoteTasks

pytestmark = pytest.mark.unit


@given(st.binary(max_size=200), st.lists(st.integers(0, 20), max_size=30))
def test_samples_do_not_depend_on_where_the_bytes_were_cut(data: bytes, cuts: list[int]) -> None:
    """Every whole sample once, in order; an odd last byte is nobody's."""
    stream, start, parts = Int16Stream(), 0, []
    for size in [*cuts, len(data)]:
        parts.append(stream.samples(data[start : start + size]))
        start += size
    whole = np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 32768
    assert np.concatenate(parts).tolist() == whole.astype(np.float32).tolist()


def test_full_scale_stays_within_one() -> None:
    """-32768 is -1.0."""
    samples = Int16Stream().samples(b"\x00\x80\xff\x7f\x00\x00")
    assert samples.tolist() == [-1.0, pytest.approx(32767 / 32768), 0.0]


class Stubborn:
    """A reading that has to be cancelled more than once."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.is_reading = asyncio.Event()

    async def read(self) -> None:
        while self.left:
            self.is_reading.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.left -= 1


async def test_a_task_that_does_not_let_go_is_cancelled_again() -> None:
    """Its owner does not forget it before it has ended."""
    tasks, reading = RemoteTasks(close_within_s=0.01), Stubborn(2)
    task = tasks.start(reading.read())
    await reading.is_reading.wait()
    tasks.cancel(task)
    assert len(tasks) == 1
    await asyncio.wait_for(task, 20)
    assert (len(tasks), reading.left) == (0, 0)


async def test_the_end_does_not_wait_for_ever() -> None:
    """What does not end within the bound is left to the process's end."""
    tasks, good, bad = RemoteTasks(close_within_s=0.05), Stubborn(1), Stubborn(1000)
    for reading in (good, bad):
        tasks.start(reading.read())
    await asyncio.gather(good.is_reading.wait(), bad.is_reading.wait())
    await tasks.close()
    assert len(tasks) == 1
    bad.left = 1
    await tasks.close()
    assert len(tasks) == 0


async def test_a_task_that_has_ended_is_not_cancelled() -> None:
    """A late abort changes nothing."""
    tasks = RemoteTasks()
    task = tasks.start(asyncio.sleep(0))
    await task
    tasks.cancel(task, given_up=True)
    assert not task.cancelled()
