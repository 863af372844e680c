"""The face the device shows: the first known emoji of a reply, as one of the firmware's 21 emotion names.

Rules
- The first emoji of the table decides; unknown emoji are passed over.
- A reply without one gets the default: 🙂 happy.
- The names are those of the firmware's emotion table (78/xiaozhi-esp32, display/lcd_display.cc); another name changes
  nothing on its screen.
"""

from __future__ import annotations

from typing import NamedTuple

EMOTIONS = {
    "😂": "funny",
    "😭": "crying",
    "😠": "angry",
    "😔": "sad",
    "😍": "loving",
    "😲": "surprised",
    "😱": "shocked",
    "🤔": "thinking",
    "😌": "relaxed",
    "😴": "sleepy",
    "😜": "silly",
    "🙄": "confused",
    "😶": "neutral",
    "🙂": "happy",
    "😆": "laughing",
    "😳": "embarrassed",
    "😉": "winking",
    "😎": "cool",
    "🤤": "delicious",
    "😘": "kissy",
    "😏": "confident",
}


class Face(NamedTuple):
    emoji: str
    emotion: str


DEFAULT_FACE = Face("🙂", "happy")


def first_face(text: str) -> Face | None:
    """The face of the first known emoji in `text`, None if there is none."""
    for char in text:
        emotion = EMOTIONS.get(char)
        if emotion is not None:
            return Face(char, emotion)
    return None
