"""Which slots of a cluster should run: `<run_dir>/desired.json`, such as {"asr": [0, 1], "router": [0], "web": [0]}.

Written by whoever holds the right to change the cluster, in one step; read by `xiaozhi up`, which keeps those slots
alive, by the other commands, by the web process, which asks those routers, and by workers that share a limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

FILE_NAME = "desired.json"
DRAFT_NAME = "desired.new"

Desired = Mapping[str, Sequence[int]]
"""Program → slots."""


def write_desired(run_dir: Path, desired: Desired) -> None:
    draft = run_dir / DRAFT_NAME
    draft.write_text(json.dumps({program: sorted(slots) for program, slots in desired.items()}))
    draft.replace(run_dir / FILE_NAME)


def number_of(program: str, run_dir: Path) -> int | None:
    """How many processes a program should have; None if nobody runs a cluster from this directory."""
    desired = read_desired(run_dir)
    return None if desired is None else len(desired.get(program, ()))


def read_desired(run_dir: Path) -> Desired | None:
    """None if nobody runs a cluster from this directory."""
    try:
        text = (run_dir / FILE_NAME).read_text()
    except FileNotFoundError:
        return None
    return {str(program): tuple(map(int, slots)) for program, slots in json.loads(text).items()}
