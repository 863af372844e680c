"""What a recogniser is: an Engine makes Recognisers, a Recogniser turns one utterance at a time into text.

Two kinds of engine, one interface. A streaming recogniser listens while the person speaks and may tell partials; a
whole-utterance recogniser (`whole.WholeUtterance`) collects and asks once. What computes for long runs in a child
process (`process.ChildRecogniser`) or upstream, so no call here ever blocks the loop.

Rules for every recogniser:
* `begin`, then any number of `feed`, then either `finish` or `cancel`; after both it can `begin` again.
* `feed` never waits. A failure shows as EngineError from `feed`, `finish` or `cancel`; then it must be closed.
* Deadlines are the caller's: `finish` and `cancel` may be cancelled at any await, after which it must be closed.
* Retries and fallbacks are the caller's too: a recogniser that fails says so once and is done.
* Who owns the end of speech is the engine's `endpoint`. `own`: our search finds it and `finish` tells the upstream.
  `upstream`: the recogniser calls `brief.on_endpoint` when the upstream has found it. It then waits for `finish` as
  ever, and listens on until it comes: a held key is ended by nobody but the one who holds it, and later sentences
  belong to the same text then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from shared.errors import EngineError

OnPartial = Callable[[str], None]
OnLoss = Callable[[EngineError], None]
OnEndpoint = Callable[[int | None], bool]
"""Told once an utterance: where in its sound, in ms from its first sample, the upstream found the end of speech; None
if it does not say where. True: the utterance ends there, and what was said behind it belongs to the next one. False:
somebody else ends it, or it is over already."""

EndOwner = Literal["own", "upstream"]


def _nobody_asks(at_ms: int | None) -> bool:
    """Our own search ends the utterance."""
    return False


@dataclass(frozen=True, slots=True)
class Brief:
    """What a recogniser is told of the utterance."""

    session: str
    utterance: int
    language: str | None = None
    on_endpoint: OnEndpoint = field(default=_nobody_asks, repr=False, compare=False)
    """For an engine whose `endpoint` is `upstream`."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said; empty if nothing was understood."""

    text: str
    language: str | None = None
    compute_s: float | None = None
    """What the recogniser worked on it, an upstream's time included; None = not known."""


class Recogniser(Protocol):
    """One utterance at a time; 16 kHz s16le mono."""

    def begin(self, brief: Brief, on_partial: OnPartial) -> None: ...

    def feed(self, pcm: bytes) -> None: ...

    async def finish(self) -> Transcript:
        """No more audio: the text."""

    async def cancel(self) -> None:
        """Forget the utterance; returns when another may begin."""

    async def close(self) -> None:
        """Free everything, a stuck child included; never raises and never waits for the recogniser."""

    @property
    def is_usable(self) -> bool:
        """False once it can only be closed."""


class Engine(Protocol):
    """One configured section: where its recognisers come from."""

    @property
    def is_heavy(self) -> bool:
        """Whether a recogniser takes long to make, so that they are made before they are needed."""

    async def make(self, on_loss: OnLoss) -> Recogniser:
        """A warm recogniser. It calls `on_loss` if it dies by itself. Raises EngineError."""


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """An engine whose recognisers ask a service outside: one upstream session an utterance."""

    @property
    def endpoint(self) -> EndOwner:
        """Who owns the end of speech: nobody else ends an utterance for want of sound."""

    @property
    def resolves_names(self) -> bool:
        """Whether its address is a name: looking one up costs the process libuv's threads."""

    async def close(self) -> None:
        """Free the connections it keeps; its recognisers are closed before."""
