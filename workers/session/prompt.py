"""The system prompt of a turn: the configured one, and what changes by itself."""

from __future__ import annotations

from datetime import datetime

TIME_MARK = "{{current_time}}"


def system_prompt(template: str, now: datetime) -> str:
    """The time goes where the template has its mark, else behind everything, where it spoils no provider's cache."""
    time = f"{now:%Y-%m-%d %H:%M %A}"
    if TIME_MARK in template:
        return template.replace(TIME_MARK, time)
    return f"{template}\n\nCurrent time: {time}"
