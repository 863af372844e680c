"""docs/checklist.md names only modules and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "checklist.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| item")
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_row_names_a_module_and_a_test_that_exist(row: list[str]) -> None:
    """A row is a promise; a renamed test must not leave it empty. What is not there yet names neither."""
    assert len(row) == 4
    assert all(row)
    modules, tests = re.findall(r"`([^`]+)`", row[2]), re.findall(r"`([^`]+)`", row[3])
    if row[1].startswith("not yet:"):
        assert row[2:] == ["–", "–"]
        return
    assert modules
    assert tests
    assert [module for module in modules if not (ROOT / module).exists()] == []
    assert [test for test in tests if not exists(test)] == []


def test_each_item_stands_once() -> None:
    """Two rows about one item would sooner or later differ."""
    assert len({row[0] for row in ROWS}) == len(ROWS) > 60


def exists(test: str) -> bool:
    """`path::function`, or `path::Class::method`."""
    path, _, name = test.partition("::")
    file = ROOT / path
    if not file.is_file() or not name:
        return False
    wanted = name.rpartition("::")[2]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == wanted for node in ast.walk(ast.parse(file.read_text())))


def test_the_check_itself_finds_what_is_missing() -> None:
    """A check that cannot fail would be worth nothing."""
    assert exists("tests/unit/test_checklist.py::test_the_check_itself_finds_what_is_missing")
    assert not exists("tests/unit/test_checklist.py::test_of_something_else")
    assert not exists("tests/unit/test_checklist.py")
    assert not exists("tests/unit/no_such_file.py::test_x")
