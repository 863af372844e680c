"""The actor of one session: it takes the router's events one by one, and sends what the turn core says.

Rules
- Events are handled in order by one task. The reply of a turn is worked on by a second one, which is cancelled the
  moment its turn is over. Both run on one loop and the core drops what is stale, so nothing of a dead turn is said.
- At the end of the stream the dialogue goes back to the store, then the stream is done.
- A session of the same device that begins later takes the dialogue over; this one ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog

from shared.errors import WorkerProtocolError
from shared.link.messages import Effects, EffectsOk, FromDevice, Input, OpenSession, Profile, ToDevice, TurnOver
from shared.worker.service import Stream
from workers.session import metrics
from workers.session.answering import Answer, Parts
from workers.session.dialogue import Dialogue
from workers.session.language import Tongue, tongue_of
from workers.session.mcp import DeviceMcp
from workers.session.tools import DeviceTools, TurnTools
from workers.session.turn import Ask, Cancel, Commit, Turns
from workers.session.turn import Effects as TurnEffects

log = structlog.get_logger(__name__)

INBOX_EVENTS: Final = 256


class Conversation:
    """A Job of shared.worker.service: one stream of the session pool."""

    def __init__(
        self,
        stream: Stream,
        who: OpenSession,
        parts: Parts,
        on_gone: Callable[[Conversation], None],
        predecessor: Conversation | None = None,
    ) -> None:
        """`predecessor`: the device's session before this one, if it has not ended yet."""
        self.device = who.device
        self._stream = stream
        self._who = who
        self._parts = parts
        self._on_gone = on_gone
        self._owner = f"{who.session}/{stream.id}"
        self._turns = Turns(shows_emotion=who.features.get("emoji") is not False)
        client = DeviceMcp(parts.settings.tool_call_timeout_s, parts.settings.vision_url)
        self._tools = DeviceTools(client, self._to_device)
        self._dialogue = Dialogue(parts.settings.history_messages)
        self._tongue: Tongue = tongue_of(parts.settings.prompt)
        self._answers: set[asyncio.Task[None]] = set()
        self._acknowledged: dict[tuple[int, int], asyncio.Future[None]] = {}
        self._inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(INBOX_EVENTS)
        self._log = log.bind(session=who.session, device=who.device)
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            Input.name: self._on_input,
            TurnOver.name: self._on_turn_over,
            FromDevice.name: self._on_from_device,
            EffectsOk.name: self._on_effects_ok,
        }
        stream.event(Profile())
        self._task = asyncio.create_task(self._live(predecessor), name=f"session-{who.session}")

    def __repr__(self) -> str:
        return f"Conversation({self._who.session!r}, {self._turns!r})"

    # shared.worker.service.Job

    def on_audio(self, packet: bytes) -> None:
        """A session takes no audio."""

    def on_credit(self, body: dict[str, Any]) -> None:
        """A session sends no audio."""

    def on_event(self, body: dict[str, Any]) -> None:
        if self._inbox.full():
            metrics.INBOX_OVERFLOWS.inc()
            self._stream.error("overloaded", retryable=True)
            self._drop_inbox()
        else:
            self._inbox.put_nowait(body)

    def on_end(self) -> None:
        """Everything that came before is handled first."""
        if self._inbox.full():
            self._drop_inbox()
        else:
            self._inbox.put_nowait(None)

    def on_abort(self, reason: str) -> None:
        self.on_end()

    def supersede(self) -> None:
        """Another session of the device has begun."""
        self._stream.error("superseded")
        self.on_end()

    async def ended(self) -> None:
        """Wait until everything this conversation owns has ended."""
        await asyncio.gather(self._task, return_exceptions=True)

    def _drop_inbox(self) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)

    # the actor

    async def _live(self, predecessor: Conversation | None) -> None:
        failure: Exception | None = None
        try:
            await self._begin(predecessor)
            while (body := await self._inbox.get()) is not None:
                self._handle(body)
        except Exception as error:
            failure = error
        if failure is not None:
            self._log.error("session_failed", error=type(failure).__name__)
            self._stream.error("internal", message=type(failure).__name__)
        await self._end()

    async def _begin(self, predecessor: Conversation | None) -> None:
        if predecessor is not None:
            await predecessor.ended()
        self._dialogue = await self._parts.store.take(self.device, self._owner, self._now())
        if self._who.features.get("mcp"):
            self._tools.start()
        if self._who.resume is not None:
            self._run(self._turns.on_input(self._who.resume))

    async def _end(self) -> None:
        self._run(self._turns.on_turn_over(TurnOver(self._turns.gen, "interrupted", "end", 0)))
        await asyncio.gather(*self._answers, return_exceptions=True)
        self._tools.close()
        await self._parts.store.give(self.device, self._owner, self._dialogue, self._now())
        self._on_gone(self)
        if self._stream.is_open:
            self._stream.done(turns=self._dialogue.turns)

    def _handle(self, body: dict[str, Any]) -> None:
        """A malformed event is the router's fault; the conversation goes on."""
        handler = self._handlers.get(str(body.get("name")))
        try:
            if handler is not None:
                handler(body)
        except WorkerProtocolError as error:
            metrics.BAD_EVENTS.inc()
            self._log.warning("bad_event", code=error.code)

    def _on_input(self, body: dict[str, Any]) -> None:
        self._run(self._turns.on_input(Input.from_map(body)))

    def _on_turn_over(self, body: dict[str, Any]) -> None:
        self._run(self._turns.on_turn_over(TurnOver.from_map(body)))

    def _on_from_device(self, body: dict[str, Any]) -> None:
        self._tools.on_message(FromDevice.from_map(body).message)

    def _on_effects_ok(self, body: dict[str, Any]) -> None:
        event = EffectsOk.from_map(body)
        waiter = self._acknowledged.get((event.gen, event.n))
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # what the turn core wants done

    def _run(self, effects: TurnEffects) -> None:
        for effect in effects:
            match effect:
                case Ask(event):
                    self._answer(event)
                case Cancel():
                    self._cancel()
                case Commit():
                    self._dialogue.commit(
                        effect.gen,
                        list(effect.segments),
                        effect.played_segments,
                        effect.played_part,
                        is_complete=effect.is_complete,
                    )
                case _:
                    self._stream.event(effect)

    def _answer(self, event: Input) -> None:
        if event.source in ("asr", "text"):
            self._tongue = tongue_of(event.text, event.language, self._tongue)
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
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def _cancel(self) -> None:
        for task in self._answers:
            task.cancel()

    async def _announce(self, gen: int, n: int) -> None:
        """Tell the router that tool `n` changes something, and wait for its word."""
        waiter = self._acknowledged[gen, n] = asyncio.get_running_loop().create_future()
        self._stream.event(Effects(gen, n))
        try:
            await waiter
        finally:
            del self._acknowledged[gen, n]

    def _to_device(self, message: dict[str, Any]) -> None:
        self._stream.event(ToDevice(message))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
