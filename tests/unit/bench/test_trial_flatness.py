"""A soak's verdict: noise is flat, a slow rise is not, and what only the first half took does not count."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trial.books import Holding
from bench.trial.flatness import complaints_of, growths, line_of

pytestmark = pytest.mark.unit

HOLDING = Holding("tts-0", 7, threads=6, thread_budget=8, tasks=9, descriptors=40, memory_kib=100_000)
COUNT = 200


def run(**rise: float) -> list[tuple[float, list[Holding]]]:
    """Samples of five seconds; `rise` is by how much a number grows over the last half, with a noise of a few %."""
    samples = []
    for n in range(COUNT):
        grown = {
            key: int(getattr(HOLDING, key) * (1 + 0.01 * (n % 3)) + by * max(0, n - COUNT // 2) / (COUNT / 2))
            for key, by in rise.items()
        }
        samples.append((n * 5.0, [replace(HOLDING, **grown)]))
    return samples


@given(st.floats(-100, 100), st.floats(-10, 10))
def test_a_line_is_found(start: float, slope: float) -> None:
    """Exactly, where there is no noise."""
    mean, found = line_of([(float(at), start + slope * at) for at in range(11)])
    assert found == pytest.approx(slope, abs=1e-9) and mean == pytest.approx(start + slope * 5, abs=1e-9)


def test_noise_is_flat() -> None:
    """Up and down without a trend."""
    assert complaints_of(run(memory_kib=0)) == []
    assert {one.what for one in growths(run(memory_kib=0))} == {"memory_kib", "descriptors", "tasks", "threads"}


@pytest.mark.parametrize(
    ("code", "rise"),
    [
        ("memory_kib_grow", {"memory_kib": 6_000}),
        ("descriptors_grow", {"descriptors": 5}),
        ("tasks_grow", {"tasks": 8}),
        ("threads_grow", {"threads": 2}),
    ],
)
def test_a_leak_is_not(code: str, rise: dict[str, float]) -> None:
    """Of each kind."""
    assert [complaint.code for complaint in complaints_of(run(**rise))] == [code]


def test_the_first_half_does_not_count() -> None:
    """Caches fill up there."""
    samples = run(memory_kib=0)
    filled = [(at_s, [replace(held[0], memory_kib=held[0].memory_kib - max(0, 50 - n) * 1000)])
              for n, (at_s, held) in enumerate(samples)]  # fmt: skip
    assert complaints_of(filled) == []


def test_too_few_samples_are_no_verdict() -> None:
    """Nothing is said of a run that was too short to tell."""
    assert growths(run(memory_kib=0)[:5]) == []
