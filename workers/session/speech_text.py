"""What of a reply is said and shown: a stream of Markdown in, plain text without emoji out.

Rules
- Code blocks, block formulas, images, table rulers and horizontal rules are left out; links, headings, quotes, list
  items, emphasis and inline code keep their text; a table row becomes its cells, separated by commas.
- Emoji and the characters that only join or colour them are left out. Everything else passes unchanged.
- A character machine: however the text is cut into deltas, the same text comes out. It holds back only what the next
  characters decide, and no more than a bound: what turns out to be no Markdown comes out as it stands.
- The screen shows text as it is (78/xiaozhi-esp32, main/application.cc), so nothing of this may reach it either.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from workers.session.language import is_ideograph

_MAX_HELD_CHARS: Final = 500
_MAX_TABLE_ROW_CHARS: Final = 2000
_MAX_HEADING = 6
_FENCE_RUN = 3
_EMOJI_RANGES: Final = (
    (0x1F000, 0x1FAFF),
    (0x2600, 0x27BF),
    (0x2B00, 0x2BFF),
    (0x231A, 0x231B),
    (0x23E9, 0x23FF),
    (0xFE00, 0xFE0F),
    (0x200D, 0x200D),
    (0x20E3, 0x20E3),
    (0xE0000, 0xE007F),
)
_ESCAPABLE: Final = frozenset("\\`*_{}[]()#+-.!|>~$")


def is_emoji(char: str) -> bool:
    code = ord(char)
    return code > 0x200C and any(first <= code <= last for first, last in _EMOJI_RANGES)


class _Mode(Enum):
    LINE_START = auto()
    TEXT = auto()
    RUN = auto()  # of *, _, ~, ` or $ inside a line
    MARKER = auto()  # of #, -, +, *, =, _ or ~ at the start of a line
    ESCAPE = auto()
    LABEL = auto()  # behind the [ of a link
    LABEL_END = auto()
    ADDRESS = auto()
    FENCE = auto()
    FORMULA = auto()
    TABLE = auto()


class SpeechText:
    """Feed it deltas; it returns what may be said by now."""

    def __init__(self) -> None:
        self._mode = _Mode.LINE_START
        self._held = ""
        self._label = ""
        self._is_image = False
        self._last = "\n"  # the last character of the source that came out
        self._steps: Final[dict[_Mode, Callable[[str], str]]] = {
            _Mode.LINE_START: self._line_start,
            _Mode.TEXT: self._text,
            _Mode.RUN: self._run,
            _Mode.MARKER: self._marker,
            _Mode.ESCAPE: self._escape,
            _Mode.LABEL: self._label_char,
            _Mode.LABEL_END: self._label_end,
            _Mode.ADDRESS: self._address,
            _Mode.FENCE: self._fence,
            _Mode.FORMULA: self._formula,
            _Mode.TABLE: self._table,
        }

    def __repr__(self) -> str:
        return f"SpeechText({self._mode.name}, held={self._held!r})"

    def feed(self, delta: str) -> str:
        return "".join([self._steps[self._mode](char) for char in delta])

    def finish(self) -> str:
        """What was held back and is text after all."""
        held, mode = self._held, self._mode
        self._held, self._mode = "", _Mode.LINE_START
        if mode is _Mode.TABLE:
            return _table_row(held)
        if mode in (_Mode.LABEL, _Mode.LABEL_END):
            return _without_marks(held)
        if mode is _Mode.ADDRESS:
            return "" if self._is_image else _without_marks(self._label)
        if mode is _Mode.FORMULA:
            return _without_marks(held)
        return "~" if mode is _Mode.RUN and held == "~" else ""

    def _to(self, mode: _Mode, held: str = "") -> str:
        self._mode, self._held = mode, held
        return ""

    def _out(self, text: str) -> str:
        self._to(_Mode.TEXT)
        if text:
            self._last = text[-1]
        return text

    # the start of a line

    def _line_start(self, char: str) -> str:
        if char in " \t>":
            return ""
        if char in "#-+*=_~":
            return self._to(_Mode.MARKER, char)
        if char == "|":
            return self._to(_Mode.TABLE, char)
        return self._text(char)

    def _marker(self, char: str) -> str:
        mark = self._held[0]
        if char == mark and len(self._held) < _MAX_HELD_CHARS:
            return self._to(_Mode.MARKER, self._held + char)
        run = self._held
        if char == "\n" and (len(run) >= _FENCE_RUN or mark in "#=-"):
            return self._newline("")
        if char in " \t" and self._is_line_marker(run):
            return self._to(_Mode.LINE_START if mark in "-+*" else _Mode.TEXT)
        if mark == "~" and len(run) >= _FENCE_RUN:
            return self._to(_Mode.FENCE, "~")
        if mark in "*_~":
            self._to(_Mode.RUN, run)
            return self._run(char)
        return self._out(run) + self._text(char)

    @staticmethod
    def _is_line_marker(run: str) -> bool:
        if run[0] == "#":
            return len(run) <= _MAX_HEADING
        return (run[0] in "-+*" and len(run) == 1) or (run[0] in "-*_" and len(run) >= _FENCE_RUN)

    def _newline(self, before: str) -> str:
        self._to(_Mode.LINE_START)
        self._last = "\n"
        return before + "\n"

    # inside a line

    def _text(self, char: str) -> str:
        if char == "\n":
            return self._newline("")
        if char in "*_~`$":
            return self._to(_Mode.RUN, char)
        if char == "\\":
            return self._to(_Mode.ESCAPE)
        if char == "[":
            self._is_image = self._last == "!"
            return self._to(_Mode.LABEL, char)
        if is_emoji(char):
            return self._to(_Mode.TEXT)
        return self._out(char)

    def _escape(self, char: str) -> str:
        if char in _ESCAPABLE:
            return self._out(char)
        return self._out("\\") + self._text(char)

    def _run(self, char: str) -> str:
        mark = self._held[0]
        if char == mark and len(self._held) < _MAX_HELD_CHARS:
            return self._to(_Mode.RUN, self._held + char)
        run = self._held
        if mark == "`" and len(run) >= _FENCE_RUN:
            return self._to(_Mode.FENCE, "`")
        if mark == "$" and len(run) == 2:
            self._to(_Mode.FORMULA, "")
            return self._formula(char)
        return self._out(run if self._is_literal(run, char) else "") + self._text(char)

    def _is_literal(self, run: str, after: str) -> bool:
        """2 * 3, snake_case, ~5 and $5 are text; emphasis, strike-through and inline code are marks."""
        if run == "*":
            return (self._last.isspace() and after.isspace()) or (self._last.isdigit() and after.isdigit())
        if run == "_":
            return self._last.isalnum() and after.isalnum()
        return run == "~" or run[0] == "$"

    # links and images

    def _label_char(self, char: str) -> str:
        held = self._held + char
        if char == "]":
            return self._to(_Mode.LABEL_END, held)
        if char == "\n" or len(held) > _MAX_HELD_CHARS:
            text = self._out(_without_marks(self._held))
            return text + self._text(char)
        return self._to(_Mode.LABEL, held)

    def _label_end(self, char: str) -> str:
        if char == "(":
            self._label = self._held[1:-1]
            return self._to(_Mode.ADDRESS)
        return self._out(_without_marks(self._held)) + self._text(char)

    def _address(self, char: str) -> str:
        if char not in ")\n" and len(self._held) < _MAX_HELD_CHARS:
            return self._to(_Mode.ADDRESS, self._held + char)
        text = self._out("" if self._is_image else _without_marks(self._label))
        return text + (self._newline("") if char == "\n" else "")

    # blocks

    def _fence(self, char: str) -> str:
        """`held` is the fence's mark, then as many marks as stand in a row."""
        mark = self._held[0]
        if char != mark:
            return self._to(_Mode.FENCE, mark)
        if len(self._held) == _FENCE_RUN:
            return self._to(_Mode.TEXT)
        return self._to(_Mode.FENCE, self._held + char)

    def _formula(self, char: str) -> str:
        held = self._held + char
        if held.endswith("$$"):
            return self._to(_Mode.TEXT)
        if len(held) > _MAX_HELD_CHARS:
            return self._out(_without_marks(held))
        return self._to(_Mode.FORMULA, held)

    def _table(self, char: str) -> str:
        if char == "\n":
            row = _table_row(self._held)
            return self._newline(row) if row else self._to(_Mode.LINE_START)
        if len(self._held) > _MAX_TABLE_ROW_CHARS:
            return self._out(_table_row(self._held)) + self._text(char)
        return self._to(_Mode.TABLE, self._held + char)


def _table_row(row: str) -> str:
    cells = [_without_marks(cell.strip()) for cell in row.strip().strip("|").split("|")]
    if all(set(cell) <= set(":- ") for cell in cells):
        return ""
    comma = "，" if any(is_ideograph(char) for char in row) else ", "
    return comma.join(cell for cell in cells if cell)


def _without_marks(text: str) -> str:
    return "".join(char for char in text if char not in "*`" and not is_emoji(char))
