"""The session pool's work: one conversation per stream, all on one loop.

Rules
- A device has one conversation; opening another ends the one before it. Only a connection that is not the newest of its
  device, and lost its worker, is refused: it would take the device from the newer one.
- Models, grammars and the store are shared by all conversations, made before the loop runs, and closed at the end.
- At the end what is not written yet is written within the commit deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.errors import EngineError, WorkerProtocolError
from shared.ids import Role
from shared.link.messages import OpenSession
from shared.settings import SessionSettings, Settings
from shared.store.database import resolves_names as store_resolves_names
from shared.store.database import store_threads
from shared.store.model import Commit
from shared.worker.service import Job, Stream
from workers.session import metrics
from workers.session.answering import Parts
from workers.session.brain.base import Brain
from workers.session.brain.model import ModelBrain
from workers.session.brain.offline import OfflineBrain
from workers.session.conversation import Conversation
from workers.session.keeper import Keeper
from workers.session.llm.model import ChatModel
from workers.session.llm.registry import build_model, resolves_names
from workers.session.prompt import system_prompt
from workers.session.recent import RecentDialogues
from workers.session.routing import Routing

RECENT_PER_SEAT = 2
"""So many dialogues of devices that have left are kept for each conversation the worker can hold."""


class SessionService:
    """Implements shared.worker.service.Service for the session pool."""

    role = Role.SESSION

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970. Raises ConfigError if the configured model cannot be used."""
        session = settings.session
        self._settings = session
        self._store_settings = settings.store
        self._speakers = settings.voiceprint.known
        self._clock = clock
        self._model: ChatModel | None = build_model(session.llm) if session.llm is not None else None
        self._recent = RecentDialogues(window_s=session.resume_window_s, most=session.capacity * RECENT_PER_SEAT)
        self._keeper = Keeper(
            settings.store,
            settings.cluster.data_dir,
            self,
            window_s=session.resume_window_s,
            most_turns=session.history_messages,
            clock=clock,
        )
        self.extra_threads = store_threads(settings.store)
        offline = OfflineBrain(clock, session.timezone_offset_h)
        self._parts = Parts(
            settings=session,
            routing=Routing(session, has_model=self._model is not None),
            offline=offline,
            brain=self._brain(session, offline),
            keeper=self._keeper,
            recent=self._recent,
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
        """Does the model's server or the store have a name? Then the loop's resolver starts its threads."""
        return resolves_names(self._settings.llm) or store_resolves_names(self._store_settings)

    async def start(self) -> None:
        """Models were loaded when it was made. Raises ConfigError, EngineError for a store that must not be used."""
        await self._keeper.start()

    def open(self, stream: Stream, body: dict[str, Any]) -> Job:
        try:
            who = OpenSession.from_map(body)
        except WorkerProtocolError as error:
            raise EngineError("the session cannot be opened", code=error.code) from error
        predecessor = self._conversations.get(who.device)
        if predecessor is not None:
            if who.epoch and _is_newer(predecessor, who):
                raise EngineError("the device has a newer connection", code="superseded")
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
        await self._keeper.close()
        if self._model is not None:
            await self._model.close()

    def reconfigure(self, settings: Settings) -> None:
        """Other words and times, for every turn that begins from now on."""
        self._settings = session = settings.session
        self._parts = replace(
            self._parts,
            settings=session,
            routing=Routing(session, has_model=self._model is not None),
            brain=self._brain(session, self._parts.offline),
        )
        for conversation in [*self._conversations.values(), *self._ending]:
            conversation.reconfigure(self._parts)

    def _brain(self, session: SessionSettings, offline: OfflineBrain) -> Brain:
        if self._model is None or session.llm is None:
            return offline
        return ModelBrain(
            self._model,
            section=f"LLM.{session.llm.name}",
            prompt=self._prompt,
            first_timeout_s=session.llm_first_token_timeout_s,
            offers_tools=session.intent != "nointent",
        )

    def _prompt(self) -> str:
        now = datetime.fromtimestamp(self._clock(), UTC) + timedelta(hours=self._settings.timezone_offset_h)
        return system_prompt(self._settings.prompt, now, self._speakers)

    def _on_gone(self, conversation: Conversation) -> None:
        self._ending.discard(conversation)
        if self._conversations.get(conversation.device) is conversation:
            del self._conversations[conversation.device]
        metrics.DIALOGUES.set(len(self._recent) + len(self._conversations))

    # What the keeper tells

    def on_committed(self, commit: Commit) -> None:
        for conversation in self._all_of(commit.claim.device):
            conversation.on_committed(commit)

    def on_lost(self, device: str, epoch: int) -> None:
        self._recent.drop(device)
        for conversation in self._all_of(device):
            conversation.on_lost(epoch)

    def _all_of(self, device: str) -> list[Conversation]:
        current = self._conversations.get(device)
        ending = [conversation for conversation in self._ending if conversation.device == device]
        return ending if current is None else [*ending, current]


def _is_newer(present: Conversation, who: OpenSession) -> bool:
    """Is it of a connection that came behind the one that wants its session back?"""
    return present.session != who.session and not 0 < present.epoch < who.epoch
