"""What an address says of its host."""

from __future__ import annotations

import pytest

from shared.upstream.host import is_here, is_name

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("10.0.0.1", False), ("a.b", False)],
)
def test_this_machine_is_known(host: str, expected: bool) -> None:
    """No proxy leads to it."""
    assert is_here(host) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [("wss://a.example/x", True), ("ws://10.0.0.1:9/", False), ("http://[::1]:9/", False), ("ws://localhost/", True)],
)
def test_a_name_is_told_from_an_address(url: str, expected: bool) -> None:
    """Only names are resolved."""
    assert is_name(url) is expected
