"""The offline brain: the few things a device can be useful for before any language model is configured.

It knows the time and the date of the configured zone, sets the device's volume and brightness, repeats, tells jokes
and stories, greets and says goodbye; to everything else it says what it can do. English and Chinese.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from workers.session.brain.base import Leave, Output, Question, Say
from workers.session.brain.grammar import Grammar, Match
from workers.session.brain.spoken import calendar_date, cardinal, clock_time
from workers.session.controls import CONTROLS, can_write, read, write
from workers.session.language import Tongue

STEP_PERCENT: Final = 10
_UNKNOWN_PERCENT: Final = 50
_LEVELS: Final = {"Up": STEP_PERCENT, "Down": -STEP_PERCENT}
_FIXED: Final = {"Most": 100, "Off": 0}


class OfflineBrain:
    """Stateless: one for all sessions of a process."""

    name = "offline"

    def __init__(self, clock: Callable[[], float], timezone_offset_h: float) -> None:
        """`clock` gives seconds since 1970."""
        self._clock = clock
        self._zone = timedelta(hours=timezone_offset_h)
        self._grammars: dict[Tongue, Grammar] = {"en": Grammar("en"), "zh": Grammar("zh")}

    def knows(self, text: str, tongue: Tongue) -> bool:
        """Does it have an answer of its own to this?"""
        return self._grammars[tongue].match(text) is not None

    async def reply(self, question: Question) -> AsyncGenerator[Output, None]:
        match = self._grammars[question.tongue].match(question.text)
        yield Say(await self._answer(match, question))
        if match is not None and match.intent == "Goodbye":
            yield Leave()

    def canned(self, name: str, tongue: Tongue, turn: int = 0) -> str:
        """One of the answers called `name`; neighbouring turns get different ones."""
        answers = self._grammars[tongue].answers[name]
        return answers[turn % len(answers)]

    async def _answer(self, match: Match | None, question: Question) -> str:
        tongue, turn = question.tongue, question.turns
        if match is None:
            return self.canned("Fallback", tongue, turn)
        if match.intent == "Repeat":
            return question.last_reply or self.canned("NothingSaid", tongue)
        if match.intent.startswith(("Volume", "Brightness")):
            return await self._control(match, question)
        now = datetime.fromtimestamp(self._clock(), UTC) + self._zone
        text = self.canned(match.intent, tongue, turn)
        return text.replace("{time}", clock_time(now, tongue)).replace("{date}", calendar_date(now, tongue))

    async def _control(self, match: Match, question: Question) -> str:
        name = "volume" if match.intent.startswith("Volume") else "brightness"
        control, verb = CONTROLS[name], match.intent.removeprefix(name.capitalize())
        tongue, tools = question.tongue, question.tools
        await tools.ready()
        if verb == "Get":
            value = await read(tools, control)
            return self.canned("Unread", tongue) if value is None else self._told(match.intent, value, tongue)
        if not can_write(tools, control):
            return self.canned("Cannot", tongue)
        value = _FIXED.get(verb, match.percent)
        if value is None:
            present = await read(tools, control)
            value = (_UNKNOWN_PERCENT if present is None else present) + _LEVELS[verb]
        value = min(max(value, 0), 100)
        if not await write(tools, control, value):
            return self.canned("Failed", tongue)
        return self._told(f"{name.capitalize()}Set", value, tongue)

    def _told(self, answer: str, value: int, tongue: Tongue) -> str:
        return self.canned(answer, tongue).replace("{value}", cardinal(value, tongue))
