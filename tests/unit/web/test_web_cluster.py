"""Reading what other processes tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from router.web.cluster import read_fatal, read_recycled, router_slots
from router.web.fetch import body_of
from router.web.metrics import RecycledCounts
from shared.desired import write_desired
from shared.settings import ClusterSettings, Counts

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nhello\r\n\r\n", "hello\r\n\r\n"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno", None),
        (b"HTTP/1.0 200 OK\r\nA: b\r\n", None),
        (b"", None),
        (b"\r\n\r\n", None),
    ],
)
def test_page_is_the_body_of_a_whole_200_answer(answer: bytes, body: str | None) -> None:
    """Anything else is no answer."""
    assert body_of(answer) == body


@pytest.mark.parametrize("content", [None, "", "{", "[]", "7"])
def test_no_readable_file_means_that_nothing_failed(tmp_path: Path, content: str | None) -> None:
    """There is none while all is well."""
    path = tmp_path / "fatal.json"
    if content is not None:
        path.write_text(content)
    assert read_fatal(path) == {}


def test_failed_processes_are_read_with_their_reason(tmp_path: Path) -> None:
    """As `xiaozhi up` writes them."""
    path = tmp_path / "fatal.json"
    path.write_text('{"asr_00": {"reason": "no model", "since_s": 1.5}, "tts_01": "x"}')
    assert read_fatal(path) == {"asr_00": "no model", "tts_01": "x"}


def test_the_routers_that_should_run_now_are_asked(tmp_path: Path) -> None:
    """Scaling changes them while this process lives; on its own it asks the configured ones."""
    settings = ClusterSettings(run_dir=tmp_path, counts=Counts(routers=2))
    assert list(router_slots(settings)) == [0, 1]
    write_desired(tmp_path, {"router": [0, 3], "asr": [0]})
    assert list(router_slots(settings)) == [0, 3]


def test_replaced_processes_are_counted_once_each(tmp_path: Path) -> None:
    """`xiaozhi up` writes all since the start; what was counted before is not counted again."""
    counts = RecycledCounts()
    for total in (2, 2, 3):
        (tmp_path / "recycled.json").write_text(f'{{"asr/age": {total}}}')
        counts.update(read_recycled(tmp_path / "recycled.json"))
    assert REGISTRY.get_sample_value("xz_recycled_total", {"program": "asr", "reason": "age"}) == 3
    assert read_recycled(tmp_path / "none.json") == {}
