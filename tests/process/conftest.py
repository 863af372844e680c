"""Clusters of stand-in programs under the real supervisord."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.fakes.standin_up import PATIENT_S, Start, Up


@pytest.fixture
def start(tmp_path: Path, run_dir: Path) -> Iterator[Start]:
    """Starts clusters of stand-ins, and ends what is left of them. `is_ready`: taken for heard before they start."""
    started: list[Up] = []

    def start_one(
        kinds: Mapping[str, str],
        *,
        drain_s: float = PATIENT_S,
        stdin: int = subprocess.DEVNULL,
        at: str = "a",
        is_ready: Iterable[str] = (),
    ) -> Up:
        for directory in (tmp_path / at, tmp_path / at / "data", run_dir / at):
            directory.mkdir(exist_ok=True)
        for name in is_ready:
            (tmp_path / at / "data" / f"{name}.ready").write_text('{"pid": 0, "epoch": 1}')
        started.append(Up(tmp_path / at, run_dir / at, kinds, drain_s, stdin))
        return started[-1]

    yield start_one
    for up in started:
        up.kill_everything()
