"""The session pool's work: one conversation per stream, all on one loop.

Rules
- A device has one conversation; opening another ends the one before it.
- Models, grammars and the store are shared by all conversations, made before the loop runs, and closed at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.errors import EngineError, WorkerProtocolError
from shared.ids import Role
from shared.link.messages import OpenSession
from shared.settings import SessionSettings, Settings
from shared.worker.service import Job, Stream
from workers.session import metrics
from workers.session.answering import Parts
from workers.session.brain.base import Brain
from workers.session.brain.model import ModelBrain
from workers.session.brain.offline import OfflineBrain
from workers.session.conversation import Conversation
from workers.session.llm.model import ChatModel
from workers.session.llm.registry import build_model, resolves_names
from workers.session.prompt import system_prompt
from workers.session.routing import Routing
from workers.session.store import MemoryStore

DIALOGUES_PER_SEAT = 4
"""So many dialogues are kept for each conversation the worker can hold."""


class SessionService:
    """Implements shared.worker.service.Service for the session pool."""

    role = Role.SESSION

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970. Raises ConfigError if the configured model cannot be used."""
        session = settings.session
        self._settings = session
        self._clock = clock
        self._model: ChatModel | None = build_model(session.llm) if session.llm is not None else None
        self._store = MemoryStore(
            resume_window_s=session.resume_window_s,
            history_messages=session.history_messages,
            most=session.capacity * DIALOGUES_PER_SEAT,
        )
        offline = OfflineBrain(clock, session.timezone_offset_h)
        self._parts = Parts(
            settings=session,
            routing=Routing(session, has_model=self._model is not None),
            offline=offline,
            brain=self._brain(session, offline),
            store=self._store,
        )
        self._conversations: dict[str, Conversation] = {}
        self._ending: set[Conversation] = set()

    def __repr__(self) -> str:
        return f"SessionService({self._parts.brain.name}, conversations={len(self._conversations)})"

    @property
    def capacity(self) -> int:
        return self._settings.capacity

    @property
    def caps(self) -> dict[str, Any]:
        return {"brain": self._parts.brain.name}

    @property
    def stalled_ms(self) -> float:
        """It has no compute thread."""
        return 0.0

    @property
    def resolves_names(self) -> bool:
        """Does the model's server have a name? Then the loop's resolver starts its threads."""
        return resolves_names(self._settings.llm)

    async def start(self) -> None:
        """Everything was loaded when it was made."""

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        try:
            who = OpenSession.from_map(body)
        except WorkerProtocolError as error:
            raise EngineError("the session cannot be opened", code=error.code) from error
        predecessor = self._conversations.get(who.device)
        if predecessor is not None:
            self._ending.add(predecessor)
            predecessor.supersede()
        conversation = Conversation(stream, who, self._parts, self._on_gone, predecessor)
        self._conversations[who.device] = conversation
        return conversation

    async def close(self) -> None:
        conversations = [*self._conversations.values(), *self._ending]
        for conversation in conversations:
            conversation.on_abort("closing")
        await asyncio.gather(*(conversation.ended() for conversation in conversations))
        if self._model is not None:
            await self._model.close()

    def _brain(self, session: SessionSettings, offline: OfflineBrain) -> Brain:
        if self._model is None:
            return offline
        return ModelBrain(self._model, prompt=self._prompt, first_timeout_s=session.llm_first_token_timeout_s)

    def _prompt(self) -> str:
        now = datetime.fromtimestamp(self._clock(), UTC) + timedelta(hours=self._settings.timezone_offset_h)
        return system_prompt(self._settings.prompt, now)

    def _on_gone(self, conversation: Conversation) -> None:
        self._ending.discard(conversation)
        if self._conversations.get(conversation.device) is conversation:
            del self._conversations[conversation.device]
        metrics.DIALOGUES.set(len(self._store))
