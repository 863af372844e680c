"""The book of services outside: counts outlive processes, and a breaker opens once each time."""

from __future__ import annotations

import pytest

from bench.trial.upstream_book import ERRORS, FALLBACKS, RETRIES, STATE, Page, UpstreamBook

pytestmark = pytest.mark.unit

UPSTREAM = "TTS.EdgeTTS"


def state(pid: int, number: int) -> Page:
    return Page("tts-0", pid, ((STATE, f'upstream="{UPSTREAM}"', float(number)),))


def counts(pid: int, retries: int, fallbacks: int = 0) -> Page:
    return Page(
        "tts-0",
        pid,
        (
            (RETRIES, f'upstream="{UPSTREAM}"', float(retries)),
            (ERRORS, f'upstream="{UPSTREAM}",code="upstream_closed",reason="1011"', float(retries)),
            (FALLBACKS[1], 'engine="EdgeTTS"', float(fallbacks)),
        ),
    )


def test_counts_go_on_when_a_process_begins_anew() -> None:
    """A new process counts from nothing; one that is looked at twice is counted once."""
    book = UpstreamBook()
    for page in (counts(1, 2, 1), counts(1, 3, 1), counts(2, 1, 4)):
        book.on_pages([page])
    told = book.to_json()
    assert told["retries"] == {UPSTREAM: 4}
    assert told["errors"] == {"upstream_closed": 4}
    assert told["fallbacks_from"] == {"TTS.EdgeTTS": 5}
    assert book.fallbacks == 5


def test_a_breaker_that_stays_open_has_opened_once() -> None:
    """And again after it was seen to be half open or closed; each process has its own."""
    book = UpstreamBook()
    for pages in ([state(1, 2)], [state(1, 2)], [state(1, 1)], [state(1, 2), state(2, 2)], [state(1, 0), state(2, 2)]):
        book.on_pages(pages)
    assert book.opens == {UPSTREAM: 3}


def test_who_is_not_closed_is_known_by_the_last_look() -> None:
    """Of those that were asked about, in the processes that are there."""
    book = UpstreamBook()
    book.on_pages([state(1, 2), state(2, 1), state(3, 0)])
    assert book.not_closed([UPSTREAM]) == [UPSTREAM, UPSTREAM]
    assert book.not_closed(["TTS.Other"]) == []
    book.on_pages([state(3, 0)])
    assert book.not_closed([UPSTREAM]) == []
