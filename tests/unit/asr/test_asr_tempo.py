"""How long speech detection waits for company."""

from __future__ import annotations

import pytest

from workers.asr.tempo import PATIENCE_S, Tempo

pytestmark = pytest.mark.unit


def after(requests_per_s: int, seconds: int = 3) -> Tempo:
    tempo = Tempo()
    for second in range(seconds):
        for n in range(requests_per_s):
            tempo.served(1, second + n / requests_per_s)
    tempo.served(1, float(seconds))
    return tempo


def test_a_few_streams_are_served_at_once() -> None:
    """One device sends 17 frames a second: waiting for others would only delay it."""
    assert after(17).patience_s == after(60).patience_s == 0.0


def test_many_streams_are_gathered() -> None:
    """Ten devices and more: their windows share a batch."""
    assert after(167).patience_s == PATIENCE_S


def test_when_the_load_has_gone_nobody_waits_any_more() -> None:
    """The rate is that of the last whole second."""
    tempo = after(200)
    for n in range(17):
        tempo.served(1, 3.1 + n / 17)
    tempo.served(1, 4.2)
    assert tempo.patience_s == 0.0
