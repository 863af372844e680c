"""The system prompt of a turn: the configured one, who may speak, and what changes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.voiceprint import Speaker, speakers_info

TIME_MARK = "{{current_time}}"


def system_prompt(template: str, now: datetime, speakers: Sequence[Speaker] = ()) -> str:
    """The time goes where the template has its mark, else behind everything, where it spoils no provider's cache."""
    time = f"{now:%Y-%m-%d %H:%M %A}"
    people = f"\n\n{speakers_info(speakers)}" if speakers else ""
    if TIME_MARK in template:
        return template.replace(TIME_MARK, time) + people
    return f"{template}{people}\n\nCurrent time: {time}"
