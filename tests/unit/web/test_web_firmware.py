"""Firmware versions and files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.web.firmware import find_newer, is_safe_name, parse_file, parse_version

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text", ["v1.2", "1.x", "1..2", ".1", "1.", "", " 1", "1.2-rc1", "9999999999.1", "1.2\n", "١.٢"]
)
def test_version_that_would_crash_the_device_is_none(text: str) -> None:
    """The device feeds each part to std::stoi without a catch: letters, emptiness and overflow abort it."""
    assert parse_version(text) is None


@given(st.lists(st.integers(0, 999_999_999), min_size=1, max_size=6))
def test_digits_and_dots_are_a_version(parts: list[int]) -> None:
    """Any number of numeric parts."""
    assert parse_version(".".join(map(str, parts))) == tuple(parts)


FILES = [
    "esp-box_2.10.0.bin",
    "esp-box_2.9.0.bin",
    "esp-box_3.0.0-rc1.bin",
    "esp-box_2.bin",
    "other_9.0.0.bin",
    "readme.txt",
]


@pytest.mark.parametrize(
    ("running", "offered"),
    [
        ("2.8.9", "2.10.0"),
        ("2.9.0", "2.10.0"),
        ("2.10.0", None),
        ("2.10", "2.10.0"),
        ("2.11.0", None),
        ("1.0", "2.10.0"),
    ],
)
def test_newest_file_is_offered_if_it_is_newer(running: str, offered: str | None) -> None:
    """Numbers compare as numbers; a version with letters is never offered, as it would crash the device."""
    version = parse_version(running)
    assert version is not None
    found = find_newer(FILES, "esp-box", version)
    assert (found.version_text if found else None) == offered


def test_file_of_another_model_is_not_offered() -> None:
    """Model names must agree to the letter, also those with an underscore."""
    assert find_newer(FILES, "esp", (1,)) is None
    assert parse_file("my_board_1.2.bin") is not None
    assert find_newer(["my_board_1.2.bin"], "my_board", (1,)) is not None


@pytest.mark.parametrize(
    "name", ["../a.bin", "a/b.bin", "..bin", ".hidden.bin", "a.bin/", "a.txt", "", "a b.bin", "a.bin\n"]
)
def test_names_that_lead_elsewhere_are_not_served(name: str) -> None:
    """Only plain names that end in .bin."""
    assert not is_safe_name(name)
