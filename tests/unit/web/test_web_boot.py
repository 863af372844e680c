"""What a device says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from router.web.boot import Build, Ids, read_body, read_build, read_ids

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["board", "type", "application", "version"]), inner)
    ),
)


def test_ids_are_read_whatever_the_case_of_the_header() -> None:
    """Devices write Device-Id, pages device-id."""
    assert read_ids(CIMultiDict({"Device-Id": "aa:bb", "client-id": "one"})) == Ids("aa:bb", "one")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"device-id": "aa"},
        {"client-id": "one"},
        {"device-id": "", "client-id": "one"},
        {"device-id": "aa", "client-id": "a|b"},
    ],
)
def test_both_ids_are_needed(headers: dict[str, str]) -> None:
    """A token is for a pair."""
    assert read_ids(CIMultiDict(headers)) is None


def test_build_comes_from_headers_then_from_the_body() -> None:
    """Headers win; the firmware's body has the board's type and the application's version."""
    body = {"board": {"type": "esp-box"}, "model": "other", "application": {"version": "2.4.2"}}
    assert read_build(CIMultiDict(), body) == Build("esp-box", "2.4.2")
    assert read_build(CIMultiDict({"Device-Model": "m", "App-Version": "1.0"}), body) == Build("m", "1.0")
    assert read_build(CIMultiDict(), {"model": "m"}) == Build("m", "0.0.0")
    assert read_build(CIMultiDict(), {}) == Build("default", "0.0.0")


@pytest.mark.parametrize("raw", [b"{", b"[]", b"1", b"null", b"\xff", b"[" * 100_000, b'"x"'])
def test_body_that_is_no_object_is_none(raw: bytes) -> None:
    """It is counted and ignored: the device needs its answer all the same."""
    assert read_body(raw) is None


def test_empty_body_is_an_empty_object() -> None:
    """A version 1 activation may have no body."""
    assert read_body(b"") == read_body(b" \n") == read_body(b"{}") == {}


@given(st.dictionaries(st.sampled_from(["board", "model", "application"]), JSON))
def test_body_of_any_shape_gives_a_build(body: dict[str, object]) -> None:
    """Wrong types are as good as nothing."""
    build = read_build(CIMultiDict(), body)
    assert 1 <= len(build.model) <= 64
    assert 1 <= len(build.version) <= 64
