"""One reply in work: ask the brain, hand its words to the turn core, and end the turn whatever happens.

Rules
- A brain that fails before its first segment is replaced: by the offline brain if that knows an answer, else by an
  apology in the person's language. One that fails later ends the reply with what was complete.
- Whatever is raised here ends the turn; only a cancellation does not, for then the turn is over already.
- What a model said is written to the dialogue as it wrote it; an apology is not written at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from shared.errors import EngineError
from shared.link.messages import Input, OpenSession
from shared.settings import SessionSettings
from workers.session import metrics
from workers.session.brain.base import Brain, Called, Leave, Output, Pause, Question, Say
from workers.session.brain.offline import OfflineBrain
from workers.session.dialogue import Dialogue
from workers.session.keeper import Keeper
from workers.session.language import Tongue
from workers.session.recent import RecentDialogues
from workers.session.routing import Plan, Route, Routing
from workers.session.tools import TurnTools
from workers.session.turn import Effects, Turns

log = structlog.get_logger(__name__)

APOLOGY: Final = "😔 Sorry, something went wrong. Please try again in a moment."


@dataclass(frozen=True, slots=True)
class Parts:
    """What all conversations of a process share."""

    settings: SessionSettings
    routing: Routing
    offline: OfflineBrain
    brain: Brain
    """The configured one; the offline brain if none is."""
    keeper: Keeper
    recent: RecentDialogues

    @staticmethod
    def now() -> float:
        """Seconds of the loop's clock."""
        return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Answer:
    """The reply to one input."""

    event: Input
    who: OpenSession
    parts: Parts
    turns: Turns
    dialogue: Dialogue
    tools: TurnTools
    tongue: Tongue
    emit: Callable[[Effects], None]
    brain: str = ""
    _said: list[str] = field(default_factory=list)
    _began: float = 0.0
    _first_ms: float | None = None
    _close: bool = False
    _error: str | None = None

    async def run(self) -> None:
        """The root of a turn's task. Only a cancellation comes out of it."""
        self._began = self.parts.now()
        plan = self.parts.routing.plan(self.event)
        self._close = plan.close
        failure: Exception | None = None
        try:
            await self._follow(plan)
            if self._first_ms is None and plan.route in (Route.BRAIN, Route.PROMPT):
                raise EngineError("the brain said nothing", code="empty_reply")
        except Exception as error:
            failure = error
        if failure is not None:
            await self._recover(plan, failure)
        self._end()

    @property
    def _gen(self) -> int:
        return self.event.gen

    async def _follow(self, plan: Plan) -> None:
        offline = self.parts.offline
        self.brain = offline.name
        match plan.route:
            case Route.BRAIN | Route.PROMPT:
                self.brain = self.parts.brain.name
                await self._listen(self.parts.brain.reply(self._question()))
            case Route.GREET:
                self._say(offline.canned("Wake", self.tongue, self.dialogue.turns))
            case Route.LEAVE:
                self._say(offline.canned("Goodbye", self.tongue, self.dialogue.turns))

    def _question(self) -> Question:
        return Question(
            text=self.event.text,
            tongue=self.tongue,
            messages=self.dialogue.messages(),
            tools=self.tools,
            last_reply=self.dialogue.last_reply,
            turns=self.dialogue.turns,
            session=self.who.session,
            device=self.who.device,
        )

    async def _listen(self, outputs: AsyncGenerator[Output, None]) -> None:
        async with aclosing(outputs):
            async for output in outputs:
                self._take(output)
                if self.turns.is_full(self._gen):
                    return

    def _take(self, output: Output) -> None:
        match output:
            case Say(text):
                self._say(text)
            case Pause():
                self.emit(self.turns.on_round(self._gen))
            case Called(done):
                self.dialogue.called(self._gen, done)
                self._said.clear()
            case Leave():
                self._close = True

    def _say(self, text: str) -> None:
        if self._first_ms is None and text.strip():
            self._first_ms = self._ms()
        self._said.append(text)
        self.emit(self.turns.on_text(self._gen, text))

    async def _recover(self, plan: Plan, failure: Exception) -> None:
        """The brain has failed: say something else, if nothing was said."""
        self._error = failure.code if isinstance(failure, EngineError) else "internal"
        self._log_failure(failure)
        metrics.REPLIES.labels(self.brain, "failed").inc()
        if not self.turns.on_restart(self._gen):
            self.emit(self.turns.on_failure(self._gen, **self._stats()))
            return
        self._said.clear()
        if not await self._answer_offline(plan):
            text = self.parts.offline.canned("Goodbye", self.tongue) if plan.close else self._apology()
            self.emit(self.turns.on_text(self._gen, text))

    async def _answer_offline(self, plan: Plan) -> bool:
        offline = self.parts.offline
        if plan.route is not Route.BRAIN or self.brain == offline.name:
            return False
        if not offline.knows(self.event.text, self.tongue):
            return False
        self.brain = offline.name
        failure: Exception | None = None
        try:
            await self._listen(offline.reply(self._question()))
        except Exception as error:
            failure = error
        if failure is not None:
            self._log_failure(failure)
        return failure is None or not self.turns.on_restart(self._gen)

    def _log_failure(self, failure: Exception) -> None:
        """Never the exception itself: its text may repeat what was said."""
        code = failure.code if isinstance(failure, EngineError) else "internal"
        where = log.bind(session=self.who.session, device=self.who.device, generation=self._gen)
        where.warning("brain_failed", brain=self.brain, code=code, error=type(failure).__name__)

    def _apology(self) -> str:
        return self.parts.settings.system_error_response if self.tongue == "zh" else APOLOGY

    def _end(self) -> None:
        self.dialogue.said(self._gen, "".join(self._said))
        if self.turns.is_alive(self._gen) and self._error is None:
            metrics.REPLIES.labels(self.brain, "complete").inc()
        self.emit(self.turns.on_end(self._gen, close=self._close, **self._stats()))

    def _stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = {"brain": self.brain, "tools": self.tools.calls, "llm_ms": self._ms()}
        if self._first_ms is not None:
            stats["llm_first_ms"] = self._first_ms
        if self._error is not None:
            stats["error"] = self._error
        return stats

    def _ms(self) -> float:
        return round((self.parts.now() - self._began) * 1000, 1)
