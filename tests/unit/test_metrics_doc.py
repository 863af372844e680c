"""docs/metrics.md describes the metrics that the code defines, and their names follow Prometheus' rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
KINDS = ("Counter", "Gauge", "Histogram", "Info", "Summary", "Enum")
BASE_UNITS = ("_seconds", "_bytes", "_total")
NO_UNIT = ("_factor", "_size")
"""Histograms of plain numbers: a quotient, a count of things."""
TIME_UNITS = ("_ms", "_milliseconds", "_minutes", "_kb", "_percent")
NO_LABELS = {"device", "session", "incarnation"}
PROCESSES = {
    "router/web": {"web"},
    "router": {"router"},
    "workers/asr": {"asr"},
    "workers/tts": {"tts"},
    "workers/session": {"session"},
    "shared/worker": {"asr", "tts", "session"},
    "shared/link": {"router", "asr", "tts", "session"},
    "shared/identity": {"router", "web"},
    "shared/log": {"all"},
    "shared/process": {"all"},
    "shared/store": {"session", "web"},
    "shared/upstream": {"asr", "tts", "session"},
}
"""Who runs the code of a package; the longest match counts."""


@dataclass(frozen=True)
class Metric:
    """One metric as it is scraped."""

    name: str
    kind: str
    labels: tuple[str, ...]
    processes: frozenset[str]


def defined() -> Iterator[Metric]:
    """Every metric that a module of the product makes, read from its source."""
    for package in ("shared", "router", "workers", "ops"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text()
            if "prometheus_client" in source:
                processes = run_by(path.relative_to(ROOT).as_posix())
                yield from (metric(call, processes) for call in ast.walk(ast.parse(source)) if is_definition(call))


def is_definition(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS


def metric(call: ast.AST, processes: frozenset[str]) -> Metric:
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    kind = call.func.id.lower()
    given = {key.arg: key.value for key in call.keywords}
    labels = given.get("labelnames", call.args[2] if len(call.args) > 2 else None)
    name = scraped(ast.literal_eval(call.args[0]), kind)
    return Metric(name, kind, tuple(ast.literal_eval(labels)) if labels is not None else (), processes)


def scraped(name: str, kind: str) -> str:
    """The client adds the endings of counters and infos."""
    ending = {"counter": "_total", "info": "_info"}.get(kind, "")
    return name if name.endswith(ending) else name + ending


def run_by(path: str) -> frozenset[str]:
    packages = [package for package in PROCESSES if path.startswith(package + "/")]
    return frozenset(PROCESSES[max(packages, key=len)]) if packages else frozenset()


def described(text: str) -> Iterator[Metric]:
    """The rows of the page's tables."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"`\w+`", cells[0]):
            labels = tuple(re.findall(r"`(\w+)`", cells[2]))
            yield Metric(cells[0].strip("`"), cells[1], labels, frozenset(re.split(r",\s*", cells[3])))


DEFINED = list(defined())
DESCRIBED = list(described(PAGE.read_text()))


def test_the_page_has_every_metric_once_with_its_type_labels_and_processes() -> None:
    """A metric nobody can look up is one nobody uses; a row without a metric is a lie."""
    by_name = sorted(DESCRIBED, key=lambda one: one.name)
    assert [one.name for one in by_name] == sorted(one.name for one in DEFINED)
    assert by_name == sorted(DEFINED, key=lambda one: one.name)


def test_every_row_says_what_it_means() -> None:
    """Five cells, the last of them a sentence."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(DESCRIBED)
    assert [row for row in rows if len(row.rstrip("| ").rpartition("|")[2].split()) < 3] == []


@pytest.mark.parametrize("one", DEFINED, ids=[one.name for one in DEFINED])
def test_names_and_labels_follow_the_rules(one: Metric) -> None:
    """Prefix, base units, `_total` for counters alone, and no label that grows with devices."""
    assert re.fullmatch(r"xz_[a-z0-9]+(_[a-z0-9]+)*", one.name)
    assert one.name.endswith("_total") == (one.kind == "counter")
    assert not any(unit in one.name + "_" for unit in (f"{unit}_" for unit in TIME_UNITS))
    assert one.kind != "histogram" or one.name.endswith(BASE_UNITS + NO_UNIT)
    assert NO_LABELS.isdisjoint(one.labels)
    assert one.processes


def test_metrics_are_made_where_they_are_found() -> None:
    """What reads the sources would miss a metric made under another name: the client is imported by name only."""
    for package in ("shared", "router", "workers", "ops"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                assert not (isinstance(node, ast.Import) and any(a.name == "prometheus_client" for a in node.names)), (
                    path
                )
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("prometheus_client"):
                    assert [a.asname for a in node.names if a.name in KINDS and a.asname] == [], path


def test_reading_sources_and_pages_sees_differences() -> None:
    """A comparison that finds nothing on both sides would always agree."""
    call = ast.parse('Counter("xz_a", "text", labelnames=["pool"])').body[0]
    assert isinstance(call, ast.Expr)
    assert metric(call.value, frozenset({"web"})) == Metric("xz_a_total", "counter", ("pool",), frozenset({"web"}))
    row = "| `xz_a_total` | counter | `pool`, `code` | router, asr | what it means |"
    assert list(described(row)) == [Metric("xz_a_total", "counter", ("pool", "code"), frozenset({"router", "asr"}))]
    assert list(described("| name | type | labels | process | meaning |")) == []
    assert run_by("router/web/metrics.py") == {"web"}
    assert run_by("router/metrics.py") == {"router"}
