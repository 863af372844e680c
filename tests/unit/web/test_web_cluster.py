"""Reading what other processes tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.web.cluster import read_fatal
from router.web.fetch import body_of

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
