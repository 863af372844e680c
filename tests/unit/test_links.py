"""Every relative link in the project's Markdown leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def targets(text: str) -> Iterator[str]:
    """Link targets outside of code."""
    yield from re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL))


def anchors(text: str) -> set[str]:
    """What a page's headings are called in a link: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def is_there(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    return file.exists() and (not anchor or anchor in anchors(file.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """A file that exists in the project, and a heading that it has."""
    assert [target for target in targets(page.read_text()) if not is_there(page, target)] == []


def test_a_dead_link_is_found() -> None:
    """A check that cannot fail would be worth nothing."""
    page = ROOT / "README.md"
    assert list(targets("[a](b.md) `[c](d)` [e](http://f)")) == ["b.md", "http://f"]
    assert is_there(page, "docs/operating.md#who-may-connect")
    assert not is_there(page, "docs/operating.md#nobody")
    assert not is_there(page, "docs/nothing.md")
