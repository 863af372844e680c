"""Who may change the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.change.right import BusyError, doing, held, take, undisturbed

pytestmark = pytest.mark.unit


def test_one_at_a_time(tmp_path: Path) -> None:
    """The second is told what the first does, and may when that has ended."""
    first = take(tmp_path, "scale asr 4")
    assert first is not None
    first.note("starting asr_02")
    assert take(tmp_path, "scale tts 1") is None
    with undisturbed(tmp_path) as is_free:
        assert not is_free
    told = doing(tmp_path)
    assert told is not None
    assert "`scale asr 4`" in told
    assert told.endswith(": starting asr_02")
    first.end()
    assert doing(tmp_path) is None
    with held(tmp_path, "scale tts 1", 1.0, lambda _: None):
        assert take(tmp_path, "another") is None


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    """It says who is at work, and that nothing was changed."""
    waits: list[str] = []
    with (
        held(tmp_path, "restart", 1.0, waits.append),
        pytest.raises(BusyError, match=r"`restart`.*nothing was changed"),
        held(tmp_path, "scale", 0.05, waits.append),
    ):
        pytest.fail("two at once")
    assert "`restart`" in waits[0]


def test_the_right_ends_with_an_exception(tmp_path: Path) -> None:
    """And with its process, as the lock is the kernel's."""
    with pytest.raises(RuntimeError), held(tmp_path, "scale", 1.0, lambda _: None):
        raise RuntimeError
    with undisturbed(tmp_path) as is_free:
        assert is_free
