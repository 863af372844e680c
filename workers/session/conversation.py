"""The actor of one session: it takes the router's events one by one, and sends what the turn core says.

Rules
- Events are handled in the order in which they come, each at once: an idle session has no task. The reply of a turn is
  worked on by a task, which is cancelled the moment its turn is over; the core drops what is stale, so nothing of a
  dead turn is said.
- The first events wait a moment for the device's dialogue to come from the store, but not longer: then the session goes
  on with what this process knows, and what the store says is put before it when it comes.
- A turn is committed when the router says that it is over. One that the router never ended is not: it has the record,
  and another worker is told.
- A newer session of the same device, here or elsewhere, ends this one: ERROR{superseded}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog

from shared.errors import WorkerProtocolError
from shared.link.messages import (
    Adopt,
    Claimed,
    Committed,
    Effects,
    EffectsOk,
    FromDevice,
    Input,
    OpenSession,
    Profile,
    ToDevice,
    TurnOver,
)
from shared.store.model import Claimant, DeviceFacts
from shared.store.model import Commit as StoreCommit
from shared.worker.service import Stream
from workers.session import metrics
from workers.session.answering import Answer, Parts
from workers.session.dialogue import Dialogue, PastTurn, heard_text
from workers.session.holding import Holding
from workers.session.language import Tongue, tongue_of
from workers.session.mcp import DeviceMcp
from workers.session.records import things_of, tool_records
from workers.session.routing import Route
from workers.session.speakers import Voices
from workers.session.tools import DeviceTools, TurnTools
from workers.session.turn import Ask, Cancel, Commit, Turns
from workers.session.turn import Effects as TurnEffects

log = structlog.get_logger(__name__)

INBOX_EVENTS: Final = 256
STORE_WAIT_S: Final = 0.25
"""How long the first turn may wait for the store."""

COMMIT_WAIT_S: Final = 2.0
"""How long DONE waits for the last commit."""

_STREAMS: Final = 100_000
_IDS_PER_STREAM: Final = 20_000
"""A device's late answer to an earlier worker must answer nobody: each stream has request ids of its own (int32)."""


class Conversation:
    """A Job of shared.worker.service: one stream of the session pool."""

    __slots__ = (
        "_acknowledged",
        "_answers",
        "_dialogue",
        "_early",
        "_ending",
        "_holding",
        "_on_gone",
        "_over",
        "_parts",
        "_stream",
        "_timer",
        "_tongue",
        "_tools",
        "_turns",
        "_voices",
        "_who",
    )

    def __init__(
        self,
        stream: Stream,
        who: OpenSession,
        parts: Parts,
        on_gone: Callable[[Conversation], None],
        predecessor: Conversation | None = None,
    ) -> None:
        """`predecessor`: the device's session before this one, if it has not ended yet."""
        self._stream = stream
        self._who = who
        self._parts = parts
        self._on_gone = on_gone
        self._turns = Turns(shows_emotion=who.features.get("emoji") is not False)
        client = DeviceMcp(
            parts.settings.tool_call_timeout_s, parts.settings.vision_url, stream.id % _STREAMS * _IDS_PER_STREAM
        )
        self._tools = DeviceTools(client, self)
        known = parts.recent.take(who.device, parts.now())
        if predecessor is not None:
            known = predecessor.dialogue
        self._dialogue = Dialogue(parts.settings.history_messages, who.session, known)
        self._tongue: Tongue = tongue_of(parts.settings.prompt)
        self._voices = Voices()
        self._answers: tuple[asyncio.Task[None], ...] = ()
        self._acknowledged: dict[tuple[int, int], asyncio.Future[None]] | None = None
        self._early: list[dict[str, Any] | None] | None = []
        """What came before the dialogue did, END as None; None = the session is under way."""
        self._ending: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(STORE_WAIT_S, self._on_late)
        profile = Profile()
        stream.event(profile)
        if not who.epoch:
            self._list_tools()
        self._holding = Holding(parts.keeper, who.device, self)
        self._holding.tell(DeviceFacts(features=who.features, profile=profile.to_map()))
        inherited = [] if predecessor is None else predecessor._holding.take_unclaimed()
        ended = None if predecessor is None else predecessor.ended
        by = Claimant(who.session, who.life, who.epoch)
        self._holding.begin(f"session-{who.session}-claim", by, inherited, ended)

    def __repr__(self) -> str:
        return f"Conversation({self._who.session!r}, {self._turns!r})"

    @property
    def device(self) -> str:
        return self._who.device

    @property
    def session(self) -> str:
        return self._who.session

    @property
    def dialogue(self) -> Dialogue:
        return self._dialogue

    @property
    def epoch(self) -> int:
        """Under which it has claimed the device; 0 = not yet."""
        return self._holding.epoch

    @property
    def _log(self) -> Any:
        return log.bind(session=self._who.session, device=self._who.device)

    # shared.worker.service.Job

    def reconfigure(self, parts: Parts) -> None:
        """A turn that is under way ends with what it began with."""
        self._parts = parts
        self._tools.client.call_timeout_s = parts.settings.tool_call_timeout_s

    def on_audio(self, packet: bytes) -> None:
        """A session takes no audio."""

    def on_credit(self, body: dict[str, Any]) -> None:
        """A session sends no audio."""

    def on_event(self, body: dict[str, Any]) -> None:
        if self._ending is not None:
            return
        if self._early is None:
            self._handle(body)
        elif len(self._early) >= INBOX_EVENTS:
            metrics.INBOX_OVERFLOWS.inc()
            self._stream.error("overloaded", retryable=True)
            self._finish()
        else:
            self._early.append(body)

    def on_end(self) -> None:
        """Everything that came before is handled first."""
        if self._early is None or self._ending is not None:
            self._finish()
        else:
            self._early.append(None)

    def on_abort(self, reason: str) -> None:
        """The stream is closed already."""
        self._finish()

    def supersede(self) -> None:
        """Another session of the device has begun."""
        if self._stream.is_open:
            self._stream.error("superseded")
        self._finish()

    async def ended(self) -> None:
        """Wait until everything this conversation owns has ended. It has been told to."""
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._over)

    # What its device's holding tells

    def on_claimed(self, epoch: int, facts: DeviceFacts) -> None:
        self._stream.event(Claimed(epoch))
        if self._who.epoch and facts.tools:
            self._tools.restore(facts.tools, things_of(facts.tools))

    def on_restored(self, past: list[PastTurn]) -> None:
        self._dialogue.restore(past)
        self._log.debug("dialogue_restored", turns=len(past))
        self._go_on()

    def on_superseded(self) -> None:
        metrics.SUPERSEDED.inc()
        self.supersede()

    def on_lost(self, epoch: int) -> None:
        """Somebody else has claimed the device under `epoch`."""
        self._holding.on_lost(epoch)

    def on_committed(self, commit: StoreCommit) -> None:
        for turn in commit.turns:
            if turn.session == self._who.session:
                self._stream.event(Committed(turn.gen))

    # Beginning and end

    def _on_late(self) -> None:
        metrics.STORE_LATE.inc()
        self._go_on()

    def _go_on(self) -> None:
        """The dialogue is here, or is not waited for any longer."""
        early, self._early = self._early, None
        self._stop_timer()
        if early is None or self._ending is not None:
            return
        try:
            self._list_tools()
            if self._who.resume is not None:
                self._run(self._turns.on_input(self._who.resume))
            for body in early:
                if body is None:
                    self._finish()
                elif self._ending is None:
                    self._handle(body)
        except Exception as error:  # the root of what is done for this session outside of its stream's events
            self._log.error("session_failed", error=type(error).__name__)
            self._stream.error("internal", message=type(error).__name__)
            self._finish()

    def _list_tools(self) -> None:
        if self._who.features.get("mcp"):
            self._tools.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self) -> None:
        if self._ending is None:
            self._early = None
            self._stop_timer()
            name = f"session-{self._who.session}-end"
            self._ending = asyncio.create_task(self._end(), name=name)

    async def _end(self) -> None:
        self._turns.on_turn_over(TurnOver(self._turns.gen, "interrupted", "end", 0))
        self._cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)
        self._tools.close()
        self._parts.recent.keep(self.device, self._dialogue, self._parts.now())
        await self._holding.end(COMMIT_WAIT_S)
        self._on_gone(self)
        if self._stream.is_open:
            self._stream.done(turns=self._dialogue.turns)
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        self._over.set_result(None)

    # Events

    def _handle(self, body: dict[str, Any]) -> None:
        """A malformed event is the router's fault; the conversation goes on."""
        handler = _HANDLERS.get(str(body.get("name")))
        try:
            if handler is not None:
                handler(self, body)
        except WorkerProtocolError as error:
            metrics.BAD_EVENTS.inc()
            self._log.warning("bad_event", code=error.code)

    def _on_input(self, body: dict[str, Any]) -> None:
        self._run(self._turns.on_input(Input.from_map(body)))

    def _on_turn_over(self, body: dict[str, Any]) -> None:
        self._run(self._turns.on_turn_over(TurnOver.from_map(body)))

    def _on_adopt(self, body: dict[str, Any]) -> None:
        event = Adopt.from_map(body)
        over = event.over
        heard = heard_text(event.segments, over.played_segments, over.played_part)
        asked = self._voices.told(event.input.text, event.input.speaker)
        self._commit(self._dialogue.adopt(over.gen, asked, heard, is_prompt=self._is_prompt(event.input)))

    def _on_from_device(self, body: dict[str, Any]) -> None:
        message = FromDevice.from_map(body).message
        self._tools.on_message(message)
        if message.get("type") == "iot" and message.get("descriptors"):
            self.on_listed()

    def _on_effects_ok(self, body: dict[str, Any]) -> None:
        event = EffectsOk.from_map(body)
        waiter = (self._acknowledged or {}).get((event.gen, event.n))
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the turn core wants done

    def _run(self, effects: TurnEffects) -> None:
        for effect in effects:
            match effect:
                case Ask(event):
                    self._answer(event)
                case Cancel():
                    self._cancel()
                case Commit():
                    self._commit(
                        self._dialogue.commit(
                            effect.gen,
                            list(effect.segments),
                            effect.played_segments,
                            effect.played_part,
                            is_complete=effect.is_complete,
                        )
                    )
                case _:
                    self._stream.event(effect)

    def _commit(self, turn: PastTurn | None) -> None:
        if turn is None:
            return
        if turn.messages:
            self._holding.commit(turn)
            self._holding.tell(DeviceFacts(speaker=self._voices.last))
        else:
            self._stream.event(Committed(turn.gen))  # nothing of it is worth keeping

    def _answer(self, event: Input) -> None:
        if event.source in ("asr", "text"):
            self._tongue = tongue_of(event.text, event.language, self._tongue)
        asked = self._voices.told(event.text, event.speaker)
        self._dialogue.begin(event.gen, asked, is_prompt=self._is_prompt(event))
        answer = Answer(
            event=event,
            who=self._who,
            parts=self._parts,
            turns=self._turns,
            dialogue=self._dialogue,
            tools=TurnTools(self._tools, partial(self._announce, event.gen)),
            tongue=self._tongue,
            emit=self._run,
        )
        task = asyncio.create_task(answer.run(), name=f"session-{self._who.session}-turn-{event.gen}")
        self._answers = (*self._answers, task)
        task.add_done_callback(self._on_answered)

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self._answers = tuple(other for other in self._answers if other is not task)

    def _is_prompt(self, event: Input) -> bool:
        return self._parts.routing.plan(event).route is not Route.BRAIN

    def _cancel(self) -> None:
        for task in self._answers:
            task.cancel()

    async def _announce(self, gen: int, n: int) -> None:
        """Tell the router that tool `n` changes something, and wait for its word."""
        if self._acknowledged is None:
            self._acknowledged = {}
        waiter = self._acknowledged[gen, n] = asyncio.get_running_loop().create_future()
        self._stream.event(Effects(gen, n))
        try:
            await waiter
        finally:
            del self._acknowledged[gen, n]

    # What its device's tools need

    def to_device(self, message: dict[str, Any]) -> None:
        self._stream.event(ToDevice(message))

    def on_listed(self) -> None:
        """The device has told what it can do."""
        self._holding.tell(DeviceFacts(tools=tool_records(*self._tools.describe())))


_HANDLERS: Final[dict[str, Callable[[Conversation, dict[str, Any]], None]]] = {
    Input.name: Conversation._on_input,
    TurnOver.name: Conversation._on_turn_over,
    Adopt.name: Conversation._on_adopt,
    FromDevice.name: Conversation._on_from_device,
    EffectsOk.name: Conversation._on_effects_ok,
}
