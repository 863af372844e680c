"""The memory file of today's server, read as it writes it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.store.memory_file import MOST_NOTE_CHARS, MemoryFile, MemoryFileError, read_memory

pytestmark = pytest.mark.unit


# PyYAML itself does not read back every control character and separator it writes.
WRITTEN = st.text(st.one_of(st.just("\n"), st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))), min_size=1)


@given(
    st.dictionaries(
        st.from_regex(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", fullmatch=True),
        WRITTEN.filter(lambda text: text not in ("null", "~")),
        max_size=5,
    )
)
def test_what_the_other_server_wrote_is_read_as_it_was(notes: dict[str, str]) -> None:
    """It writes with `yaml.dump(..., allow_unicode=True)`; device-ids of digits stay texts."""
    assert read_memory(yaml.dump(notes, allow_unicode=True)) == MemoryFile(notes, 0)


def test_a_device_id_of_digits_is_no_number() -> None:
    """YAML 1.1 reads 11:22:33 as a number of seconds."""
    assert read_memory("11:22:33:44:55:06: hello\n").notes == {"11:22:33:44:55:06": "hello"}


def test_entries_that_are_no_text_are_passed_over_and_counted() -> None:
    """One bad entry does not cost the others."""
    text = f"a: one\nb:\nc: null\n'': x\n'{'d' * 65}': x\nf: {'x' * (MOST_NOTE_CHARS + 1)}\n? [g]\n: x\ne: two\n"
    with pytest.raises(MemoryFileError):
        read_memory(text)
    assert read_memory(text.replace("? [g]\n: x\n", "")) == MemoryFile({"a": "one", "e": "two"}, 5)


def test_a_summary_that_is_not_a_text_is_kept_as_json() -> None:
    """Older files hold the mapping itself."""
    assert read_memory("a:\n  likes: [猫, dogs]\n").notes == {"a": '{"likes": ["猫", "dogs"]}'}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "{}", "---\n"])
def test_an_empty_file_is_no_error(text: str) -> None:
    """The other server creates one."""
    assert read_memory(text) == MemoryFile({}, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 'the words of a person", "line 1"),
        ("a: one\n\tb: the words of a person", "line 2"),
        ("- the words of a person", "no mapping"),
        ("the words of a person", "no mapping"),
        ("a: \x07 the words of a person", "no YAML"),
        ("[" * 100_000, "no YAML"),
    ],
)
def test_a_damaged_file_is_told_by_its_line_and_not_by_its_words(text: str, says: str) -> None:
    """The message goes to a log."""
    with pytest.raises(MemoryFileError, match=says) as caught:
        read_memory(text)
    assert "words" not in repr(caught.value)
