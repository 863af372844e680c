"""Log lines that strangers can cause."""

from __future__ import annotations

import pytest

from shared.log.seldom import INTERVAL_S, MAX_KEYS, Seldom

pytestmark = pytest.mark.unit


def test_one_line_a_minute_with_all_that_came_between() -> None:
    """Nothing is lost, nothing floods."""
    seldom = Seldom()
    lines = [seldom.count("key", now / 10) for now in range(int(INTERVAL_S) * 20)]
    assert [line for line in lines if line is not None] == [1, 600]


def test_kinds_do_not_hide_each_other() -> None:
    """The first of a kind is told at once."""
    seldom = Seldom()
    assert [seldom.count(kind, 0.0) for kind in ("a", "b", "a")] == [1, 1, None]


def test_too_many_kinds_become_one() -> None:
    """A kind may be somebody else's word."""
    seldom = Seldom()
    lines = [seldom.count(str(n), 0.0) for n in range(10 * MAX_KEYS)]
    assert len([line for line in lines if line is not None]) <= MAX_KEYS + 1
