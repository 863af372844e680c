"""Times, dates and numbers in words, so that every voice says them alike."""

from __future__ import annotations

import calendar
from datetime import datetime
from functools import cache

from unicode_rbnf import FormatPurpose, RbnfEngine

from workers.session.language import Tongue

_HALF_DAY = 12
_TENTH = 10


@cache
def _engine(tongue: Tongue) -> RbnfEngine:
    return RbnfEngine.for_language(tongue)


def cardinal(number: int, tongue: Tongue) -> str:
    return _engine(tongue).format_number(number, FormatPurpose.CARDINAL).text


def _ordinal(number: int) -> str:
    return _engine("en").format_number(number, FormatPurpose.ORDINAL).text


def clock_time(now: datetime, tongue: Tongue) -> str:
    """ "ten past three" is left to people: "three ten in the afternoon", 下午三点十分."""
    hour = now.hour % _HALF_DAY or _HALF_DAY
    part = _part_of_day(now.hour, tongue)
    if tongue == "zh":
        spoken_hour = "两" if hour == 2 else cardinal(hour, "zh")
        return f"{part}{spoken_hour}点{_minute_zh(now.minute)}"
    words = [cardinal(hour, "en")]
    if now.minute == 0:
        words.append("o'clock")
    elif now.minute < _TENTH:
        words.append(f"oh {cardinal(now.minute, 'en')}")
    else:
        words.append(cardinal(now.minute, "en"))
    return f"{' '.join(words)} {part}"


def calendar_date(now: datetime, tongue: Tongue) -> str:
    if tongue == "zh":
        year = "".join(cardinal(int(digit), "zh") for digit in str(now.year)).replace("〇", "零")
        day = "一二三四五六日"[now.weekday()]
        return f"{year}年{cardinal(now.month, 'zh')}月{cardinal(now.day, 'zh')}日，星期{day}"
    return f"{calendar.day_name[now.weekday()]}, {calendar.month_name[now.month]} {_ordinal(now.day)}"


def _minute_zh(minute: int) -> str:
    if minute == 0:
        return "整"
    return f"零{cardinal(minute, 'zh')}分" if minute < _TENTH else f"{cardinal(minute, 'zh')}分"


def _part_of_day(hour: int, tongue: Tongue) -> str:
    parts = (
        (6, "凌晨", "at night"),
        (12, "上午", "in the morning"),
        (18, "下午", "in the afternoon"),
        (22, "晚上", "in the evening"),
        (24, "晚上", "at night"),
    )
    chinese, english = next((zh, en) for until, zh, en in parts if hour < until)
    return chinese if tongue == "zh" else english
