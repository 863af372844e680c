"""The face of a reply."""

from __future__ import annotations

import pytest

from workers.session.emotion import EMOTIONS, first_face

pytestmark = pytest.mark.unit

FIRMWARE = (
    "neutral happy laughing funny sad angry crying loving embarrassed surprised shocked thinking winking cool relaxed "
    "delicious kissy confident sleepy silly confused"
)


def test_names_are_the_firmwares() -> None:
    """Exactly the 21 names that a device's screen knows."""
    assert sorted(EMOTIONS.values()) == sorted(FIRMWARE.split())


def test_first_known_emoji_decides() -> None:
    """Unknown emoji are passed over; a text without a known one has no face."""
    assert first_face("🚀 well 😂 and 😭") == ("😂", "funny")
    assert first_face("no face 🚀") is None
