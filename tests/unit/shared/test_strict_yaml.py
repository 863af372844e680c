"""YAML as people mean it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.strict_yaml import parse
from shared.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("11:22:33:44:55:06", "11:22:33:44:55:06"),
        ("24:0A:C4:1D:3B:F0", "24:0A:C4:1D:3B:F0"),
        ("2024-01-01", "2024-01-01"),
        ("+8", 8),
        ("-12", -12),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("yes", True),
        ("~", None),
        ("你好", "你好"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    """A MAC address is no number in base 60 and a date is no object."""
    assert parse(f"key: {text}", "file") == {"key": value}


def test_empty_text_is_an_empty_mapping() -> None:
    """A file of comments is a valid file."""
    assert parse("# nothing\n", "file") == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: c: d\n", "file:2:5"),
        ("a:\n\t- x\n", "file:2:1"),
        ("a: [1,\n", "file:2:1"),
        ("a: 1\nb: 2\na: 3\n", "file:3:1"),
        ("x:\n  a: 1\n  a: 2\n", "file:3:3"),
    ],
)
def test_an_error_names_file_line_and_column(text: str, place: str) -> None:
    """Whoever wrote the file can go straight to the place; a key that stands twice is such an error."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "file")
    assert caught.value.key == place


@pytest.mark.parametrize(
    "text", ["key: !hunter2secret x", "key: *hunter2secret", "key: 'hunter2secret", "- hunter2secret"]
)
def test_an_error_does_not_repeat_the_files_text(text: str) -> None:
    """A password that YAML takes for a tag or an alias stays out of the message."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "file")
    assert "hunter2secret" not in str(caught.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """An alias inside its own anchor would never end."""
    with pytest.raises(ConfigError, match="levels"):
        parse("a: &x {b: *x}", "file")


@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_a_config_error(text: str) -> None:
    """No other exception reaches the caller, whatever the file holds."""
    with suppress(ConfigError):
        assert isinstance(parse(text, "file"), dict)
