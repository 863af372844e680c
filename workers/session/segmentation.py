"""Where a stream of reply text is cut into the pieces that are spoken one after the other.

Rules
- `。？！；：`, `?`, `!`, `;` and a newline end a segment at once. A `.` ends one if what follows shows that it is
  neither in a number (3.14) nor in a name (example.com), nor behind an abbreviation (Dr.) or a list number (1.).
- The first segment may also end at `，`, `、`, `,` (not in 1,000) or `~`, so that speech begins early.
- A sentence without an end is cut at the bound: behind its last comma, else at its last space, else where it stands.
- Far into a long reply short sentences are joined, so that a bounded number of segments holds the whole of it.
- Decided character by character: the same text gives the same segments however it arrives, and nothing but white
  space and edge punctuation is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workers.session.language import is_cjk

ENDS: Final = frozenset("。？！；：?!;\n")
SOFT_ENDS: Final = frozenset("，、,~")
_EDGES: Final = "。？！；：，、,.?!;:~…—–-\"'“”‘’()（）[]【】《》「」『』*_ \t\r\n\u3000\xa0"
_SPOKEN_ENDS: Final = frozenset("。？！；：，、,.?!;:…")
_CLOSERS: Final = frozenset("\"'”’)]}*_")

_ABBREVIATIONS: Final = frozenset(
    {"mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "fig", "approx", "inc", "ltd", "co"}
    | {"mt", "gen", "col", "sgt", "capt", "dept", "est"}
)


@dataclass(frozen=True, slots=True)
class Length:
    """How long a segment may be, in bytes of UTF-8, from the `first`-th on."""

    first: int
    least_bytes: int
    most_bytes: int


LENGTHS: Final = (Length(24, 380, 600), Length(8, 90, 300), Length(0, 0, 300))
"""64 segments of these lengths hold 16 KB, and the first ones are short so that speech begins early."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`display` is for the screen, `spoken` keeps the end mark that a voice needs for its melody."""

    display: str
    spoken: str


class Segmenter:
    """Feed it text; it returns the pieces that are complete."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._bytes = 0
        self._made = 0
        self._length = LENGTHS[-1]
        self._pending = False  # the last character is a "." or "," that the next one decides

    def __repr__(self) -> str:
        return f"Segmenter(made={self._made}, pending={self._pending}, text={''.join(self._text)!r})"

    def feed(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        for char in text:
            self._step(char, pieces)
        return pieces

    def finish(self) -> list[Piece]:
        """The rest of the text, if there is anything to say in it."""
        pieces: list[Piece] = []
        self._pending = False
        self._cut(len(self._text), pieces)
        return pieces

    def _step(self, char: str, pieces: list[Piece]) -> None:
        if self._pending:
            self._pending = False
            if self._ends_before(char) and self._is_long_enough():
                self._cut(len(self._text), pieces)
        self._text.append(char)
        self._bytes += _byte_length(char)
        if self._ends_after(char) and self._is_long_enough():
            self._cut(len(self._text), pieces)
        elif self._bytes > self._length.most_bytes:
            self._cut(self._best_cut(), pieces)

    def _ends_after(self, char: str) -> bool:
        if char in ENDS:
            return True
        digit_before = len(self._text) > 1 and self._text[-2].isdigit()
        self._pending = char == "." or (char == "," and digit_before and self._made == 0)
        return self._made == 0 and char in SOFT_ENDS and not self._pending

    def _ends_before(self, char: str) -> bool:
        """Is the `.` or `,` at the end of the text an end, now that `char` follows it?"""
        if self._text[-1] == ",":
            return not char.isdigit()
        if not (char.isspace() or char in _CLOSERS or is_cjk(char)):
            return False
        return not _is_abbreviated("".join(self._text))

    def _is_long_enough(self) -> bool:
        return self._bytes >= self._length.least_bytes

    def _best_cut(self) -> int:
        """Behind the last comma of the last two thirds, else at the last space there, else everything."""
        size = len(self._text)
        for wanted in (SOFT_ENDS | ENDS, frozenset(" \t")):
            for index in range(size - 1, size // 3, -1):
                if self._text[index] in wanted and not self._is_in_number(index):
                    return index + 1
        return size

    def _is_in_number(self, index: int) -> bool:
        return self._text[index - 1].isdigit() and (index + 1 == len(self._text) or self._text[index + 1].isdigit())

    def _cut(self, size: int, pieces: list[Piece]) -> None:
        piece = make_piece("".join(self._text[:size]))
        self._text = self._text[size:]
        self._bytes = sum(map(_byte_length, self._text))
        self._pending = self._pending and bool(self._text)
        if piece is not None:
            self._made += 1
            self._length = next(length for length in LENGTHS if self._made >= length.first)
            pieces.append(piece)


def make_piece(raw: str) -> Piece | None:
    """None if there is nothing to say in `raw`: neither a letter nor a digit."""
    if not any(char.isalnum() for char in raw):
        return None
    flat = " ".join(raw.split())
    display = flat.strip(_EDGES)
    start = flat.index(display)
    end = next((char for char in flat[start + len(display) :] if char in _SPOKEN_ENDS), "")
    if display[0].isdigit() and start and flat[start - 1] in "-.":
        display = flat[start - 1] + display
    return Piece(display=display, spoken=display + end)


def _byte_length(char: str) -> int:
    if char < "\x80":
        return 1
    if char < "\u0800":
        return 2
    return 3 if char < "\U00010000" else 4


def _is_abbreviated(text: str) -> bool:
    """Does the `.` at the end of `text` belong to its last word?"""
    words = text[:-1].split()
    if not words:
        return False
    word = words[-1].lstrip("(\"'“‘[")
    if len(words) == 1 and word.isdigit():
        return True
    return word.lower() in _ABBREVIATIONS or _are_initials(word)


def _are_initials(word: str) -> bool:
    """J, U.S and p.m, but not a."""
    letters = word.split(".")
    if not all(len(letter) == 1 and letter.isascii() and letter.isalpha() for letter in letters):
        return False
    return len(letters) > 1 or word.isupper()
