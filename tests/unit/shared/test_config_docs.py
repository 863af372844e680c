"""docs/configuration.md says of every key what the code does with it."""

import re
from pathlib import Path
from typing import Any

import pytest

from shared.config.engine_choice import KINDS
from shared.config.keys import MODULES, NOTES, SETTINGS, VAD_OPTIONS, VARIABLES
from shared.config.load import PACKAGE_FILE
from shared.config.strict_yaml import parse

pytestmark = pytest.mark.unit

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "configuration.md").read_text("utf-8")
DOCUMENT = parse(PACKAGE_FILE.read_text("utf-8"), "config.yaml")

NAMED_BY_USER = ("VAD", "ASR", "LLM", "TTS", "Memory", "Intent")


def rows() -> dict[str, list[str]]:
    """Every key of the tables → its other cells."""
    found: dict[str, list[str]] = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        for key in re.findall(r"`([\w.*-]+)`", cells[0]) if line.startswith("| `") else ():
            assert key not in found or key in NAMED_BY_USER, f"{key} stands twice"
            found[key] = cells[1:]
    return found


def leaves(section: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Keys of the package's file, the names of engine sections as `*`."""
    found: list[tuple[str, Any]] = []
    for name, value in section.items():
        key = f"{path}{'*' if path in {f'{kind}.' for kind in NAMED_BY_USER} else name}"
        found += leaves(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    return found


def test_every_key_of_the_packages_file_is_described() -> None:
    """With nothing left out, engines' options included."""
    described = rows()
    missing = {key for key, _ in leaves(DOCUMENT)} - described.keys()
    assert missing - {"Memory.*.type", "Intent.*.type"} == set()


def test_every_key_the_code_knows_is_described() -> None:
    """Keys that work, keys that are ignored, modules and variables."""
    wanted = set(SETTINGS) | set(NOTES) | set(VARIABLES) | {f"selected_module.{kind}" for kind in MODULES}
    wanted |= {f"VAD.*.{option}" for option in VAD_OPTIONS}
    assert wanted - rows().keys() == set()


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_defaults_on_the_page_are_the_files(key: str) -> None:
    """A number on the page is the number in config.yaml."""
    value: Any = DOCUMENT
    for part in key.split("."):
        value = value[part]
    shown = rows()[key][1].strip("`")
    if shown in ("see config.yaml", "the list in config.yaml"):
        assert value
    else:
        assert shown == ("–" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value))


def test_what_works_is_said_to_work_and_the_rest_is_not() -> None:
    """A key that is only accepted is never called working."""
    described = rows()
    today = PAGE.split("## Keys of xiaozhi-server")[1].split("### Engine types")[0]
    for key in SETTINGS:
        if f"| `{key}` |" in today:
            assert described[key][2].startswith("works"), key
    for key in NOTES.keys() - {"manager-api.secret"}:
        assert not described[key][2].startswith("works"), key


def test_variables_stand_beside_their_keys() -> None:
    """The table of our own keys names the variable that overrules each."""
    ours = PAGE.split("## Keys of this server")[1]
    for variable, key in VARIABLES.items():
        if f"| `{key}` |" in ours:
            assert rows()[key][2].strip("`") == variable


def test_every_engine_type_is_listed() -> None:
    """A type that the code accepts stands in the table of types."""
    types = PAGE.split("### Engine types")[1].split("##")[0]
    for kind, module in KINDS.items():
        (row,) = [line for line in types.splitlines() if line.startswith(f"| `{kind}` |")]
        works = row.split("|")[2]
        assert {name for name in module.types if f"`{name}`" not in works} == set()


def test_the_chinese_page_has_the_variables() -> None:
    """The short page is complete where people look first."""
    page = (DOCS / "configuration.zh.md").read_text("utf-8")
    assert {name for name in VARIABLES if f"`{name}`" not in page} == set()
