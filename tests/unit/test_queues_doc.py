"""docs/queues.md names modules and metrics that exist, and every queue that the code makes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.test_metrics_doc import DEFINED

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "queues.md").read_text("utf-8")
METRICS = {metric.name for metric in DEFINED}
QUEUES = {"deque", "Queue", "SimpleQueue", "PriorityQueue", "LifoQueue"}

INNER = {
    "router/talk/turn.py": "frames of one segment: the mouth's",
    "workers/asr/engines/child.py": "the other end of the recogniser's pipe",
    "workers/asr/endpoint.py": "the last windows, of fixed length",
    "workers/asr/timeline.py": "numbers of frames that the uplink log holds",
    "workers/asr/sound.py": "sound that the uplink log holds",
}
"""Modules that make a queue which is a part of one on the page."""


def rows(header: str) -> list[list[str]]:
    """Cells of the table below a heading."""
    part = PAGE.split(f"## {header}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def metrics_in(cell: str) -> list[str]:
    return re.findall(r"`(xz_\w+)`", cell)


TABLES = [*rows("Queues"), *rows("Limits")]


@pytest.mark.parametrize("row", TABLES, ids=[row[0] for row in TABLES])
def test_a_row_names_what_exists(row: list[str]) -> None:
    """Its modules are there, its metrics are defined, and each cell says something."""
    assert len(row) in (5, 7) and all(row)
    modules = re.findall(r"`([\w/]+\.py)`", " ".join(row))
    assert modules and [module for module in modules if not (ROOT / module).is_file()] == []
    assert [name for name in metrics_in(" ".join(row)) if name not in METRICS] == []


@pytest.mark.parametrize("row", rows("Queues"), ids=[row[0] for row in rows("Queues")])
def test_a_queue_is_seen_or_needs_no_looking(row: list[str]) -> None:
    """Metrics stand in the cells for length, age and drops; what has none of them says in its bound why."""
    cells = row[4:7]
    assert all(cell == "–" or metrics_in(cell) for cell in cells)
    assert any(metrics_in(cell) for cell in cells) or re.match(r"the last|what comes in|lead of", row[2])


def test_every_module_that_makes_a_queue_is_on_the_page() -> None:
    """A new one cannot be forgotten."""
    makers = set()
    for package in ("router", "workers", "shared"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and called(node) in QUEUES:
                    makers.add(path.relative_to(ROOT).as_posix())
    assert makers, "the search finds nothing at all"
    assert {module for module in makers - INNER.keys() if f"`{module}`" not in PAGE} == set()


def called(node: ast.Call) -> str:
    """The name of what is called, and of what a field() makes by default."""
    for keyword in node.keywords:
        if keyword.arg == "default_factory" and isinstance(keyword.value, ast.Name):
            return keyword.value.id
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_page_is_found(page: str) -> None:
    """It is linked from where people begin."""
    assert "queues.md" in (ROOT / page).read_text("utf-8")
