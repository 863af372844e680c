"""What the store keeps, as plain values, and the methods by which others see it. Pure.

Rules
- A device's **epoch** is the number of its last claim. Claims of all devices are numbered by one counter, in the order
  in which they became visible, so an epoch never comes again and `lost` can ask for "everything since".
- A **claim** is the right to write for a device. Every write names its claim; one whose epoch is not the device's any
  more changes nothing and raises SupersededError.
- Times are Unix seconds (float). Texts never appear in a repr: reprs end up in logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant", "tool"]

DEFAULT_ROLE = ""
"""The memory of a device that plays only one role, and what today's server calls a role: the device itself."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """One tool call as the model wrote it; `arguments` is its JSON text."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as a model is told it: cut to what was heard, calls with their answers only."""

    role: Role
    text: str = field(repr=False)
    calls: tuple[StoredCall, ...] = ()
    call_id: str = ""
    """Of a tool's answer: the call it answers."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One exchange that is over. Its key is (session, gen): writing it a second time changes nothing."""

    session: str
    gen: int
    at_s: float
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is known of a device besides its words; None = not known. JSON values."""

    features: dict[str, Any] | None = None
    tools: list[Any] | None = None
    """The device's MCP tools as it described them."""
    speaker: str | None = field(default=None, repr=False)
    """Who spoke last, by voiceprint."""
    profile: dict[str, Any] | None = None
    """The session's last profile for ear and mouth."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`holder` owns `device` until the device's epoch is another one."""

    device: str
    epoch: int
    holder: str
    facts: DeviceFacts = DeviceFacts()
    """As they were when it was claimed."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """For whom a device is claimed: one life of a connection's session, on one worker.

    A connection keeps its name; each worker it comes to is one life more. Of two lives of a connection the later one
    wins, in whatever order their claims arrive: one that was under way when its worker died must not take the device
    from the worker that came after.
    """

    session: str = ""
    """The connection. "" = none: the claim is always good."""
    life: int = 0
    after: int = 0
    """The epoch that an earlier life is known to have claimed: only the same connection, or whoever still finds this
    epoch, goes on. 0 = the connection is new and wins against any other."""


NEWCOMER = Claimant()


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else has claimed the device, with this epoch: older claims of it are worth nothing."""

    device: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Losses:
    """Claims of others in order; `until` is what to ask from the next time."""

    lost: tuple[Lost, ...]
    until: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something that must reach somebody later. Parcels of one kind and session arrive in the order they were put."""

    kind: str
    session: str
    device: str
    payload: dict[str, Any] = field(repr=False)
    """A JSON object."""
    audio: bytes = field(default=b"", repr=False)
    key: str | None = None
    """Two of one kind and session with the same key are one parcel, for as long as the first is in the outbox. Give
    one where a commit might be repeated, such as the generation; None = never the same."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A parcel that one holder delivers now. It ends with done() or retry(), or is adopted after `until_s`."""

    id: int
    parcel: Parcel
    put_s: float
    attempt: int
    """1 at the first delivery. A lease is known by (id, attempt), so a late word of an older one changes nothing."""
    holder: str
    until_s: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the outbox."""

    waiting: int
    dead: int
    oldest_s: float | None
    """When the oldest that waits was put; None = nothing waits."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is remembered of a device in one role."""

    text: str = field(repr=False)
    updated_s: float


@dataclass(frozen=True, slots=True)
class Commit:
    """All that one claim writes in one transaction: turns, facts, memory and parcels, or nothing."""

    claim: Claim
    turns: tuple[StoredTurn, ...] = ()
    facts: DeviceFacts | None = None
    """Fields that are None stay as they are stored."""
    notes: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """(role, text) of memory to be replaced; an empty text removes it."""
    parcels: tuple[Parcel, ...] = ()


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed of a device: numbers of things."""

    turns: int = 0
    notes: int = 0
    parcels: int = 0
    recordings: int = 0
    """Parcels, of those above, that held sound."""
    facts: bool = False

    def __bool__(self) -> bool:
        return bool(self.turns or self.notes or self.parcels or self.facts)


class Ownership(Protocol):
    """Which process writes for a device."""

    async def claim(self, device: str, holder: str, now: float, *, by: Claimant = NEWCOMER) -> Claim:
        """Own the device from now on: its epoch rises, older claims are worth nothing.

        Raises StoreDownError, and SupersededError if `by` comes too late.

        `holder` names one life of one process, so that `lost` can leave out a process's own claims.
        """

    async def lost(self, holder: str, since: int) -> Losses:
        """Devices that others than `holder` have claimed, or that were forgotten, after the claim numbered `since`.

        Begin with `since=await latest()` when the process starts, then hand back `until`. One cheap query. A device
        the process never claimed is among them too. Raises StoreDownError.
        """

    async def latest(self) -> int:
        """The number of the last claim of any device. Raises StoreDownError."""


class Dialogues(Protocol):
    """What was said, by device."""

    async def load(self, device: str, now: float, window_s: float, limit: int) -> list[StoredTurn]:
        """The turns a dialogue goes on from, oldest first, at most `limit`: the last ones with no gap over `window_s`.

        Empty if the last turn is older than that: the person begins anew. Raises StoreDownError.
        """

    async def commit(self, commit: Commit, now: float) -> None:
        """All of it in one transaction, or nothing. Repeating it adds no turn twice, nor a parcel that has a key.

        Raises SupersededError, StoreDownError, StoreRefusedError.
        """


class Memory(Protocol):
    """What is remembered of a device over conversations."""

    async def get(self, device: str, role: str = DEFAULT_ROLE) -> Note | None:
        """Raises StoreDownError."""

    async def put(self, claim: Claim, text: str, now: float, role: str = DEFAULT_ROLE) -> None:
        """Replaces the note; an empty text removes it. Raises SupersededError, StoreDownError, StoreRefusedError."""


class Outbox(Protocol):
    """What must reach somebody later: at least once, in order per kind and session, by one holder at a time."""

    async def put(self, parcels: Sequence[Parcel], now: float) -> None:
        """Without a claim; with one, put them into a Commit. Raises StoreDownError, StoreRefusedError."""

    async def lease(self, holder: str, kinds: Sequence[str], now: float, lease_s: float, limit: int) -> list[Lease]:
        """The next parcel of at most `limit` sessions that nobody delivers now, oldest first.

        Leases that have ended are adopted. A parcel that has been tried too often is dead: it is counted, kept for
        `store.outbox_days`, and those behind it go on. Raises StoreDownError.
        """

    async def done(self, lease: Lease) -> bool:
        """It has arrived: forget it. False if the lease was adopted by another meanwhile. Raises StoreDownError."""

    async def retry(self, lease: Lease, at: float, error_code: str) -> bool:
        """It failed; again not before `at`. False if the lease was adopted meanwhile. Raises StoreDownError."""

    async def backlog(self) -> Backlog:
        """Raises StoreDownError."""
