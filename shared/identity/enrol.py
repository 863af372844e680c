"""How a device comes to be trusted: the life of one remembered device, as a data table.

Rules:
* The first client-id that a device is let in with is remembered. Another client-id of the same device must be approved
  by the operator, because a device-id (a MAC address) is no secret and a client-id (a random UUID) nearly is one.
* Each (device, client-id) pair that waits has its own code, so nobody can slip another pair under a code that is being
  read out, and a pair that asks again sees the same code.
* A revoked device gets nothing until it is approved again or forgotten; tokens issued before either moment stay dead.

Pure: no clock, no store, no randomness. `shared.identity.devices` keeps what is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from shared.errors import TransitionError, XiaozhiError


class DeviceState(StrEnum):
    NEW = "new"
    """Never let in, or forgotten; the next client-id may be the first."""
    APPROVED = "approved"
    """The operator vouched for the device-id before any client-id was seen: the next one is let in from anywhere."""
    ENROLLED = "enrolled"
    """Its client-id is remembered."""
    REVOKED = "revoked"


class DeviceEvent(StrEnum):
    ADMIT = "admit"
    APPROVE = "approve"
    REVOKE = "revoke"
    FORGET = "forget"


_S, _E = DeviceState, DeviceEvent

TRANSITIONS: dict[tuple[DeviceState, DeviceEvent], DeviceState] = {
    (_S.NEW, _E.ADMIT): _S.ENROLLED,
    (_S.APPROVED, _E.ADMIT): _S.ENROLLED,
    **{(state, _E.APPROVE): _S.APPROVED for state in _S},
    **{(state, _E.REVOKE): _S.REVOKED for state in _S},
    **{(state, _E.FORGET): _S.NEW for state in _S},
}
"""The operator may do anything at any time; a visit alone only ever brings in a device that has no client-id yet."""


class DeviceNotFoundError(XiaozhiError):
    """No device and no waiting code has this name."""

    code = "unknown_device"


class AmbiguousApprovalError(XiaozhiError):
    """Several clients of the device wait: the code must say which."""

    code = "ambiguous_approval"


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What is remembered of one device. Times are Unix seconds."""

    device: str
    state: DeviceState = DeviceState.NEW
    client: str | None = None
    vouched: bool = False
    """An operator approved it, so that it may renew its token from anywhere."""
    refused_before_s: int = 0
    """Tokens issued before are dead."""
    first_seen_s: int = 0
    seen_s: int = 0


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A (device, client-id) pair that waits for the operator. `challenge` goes to the device and comes back."""

    device: str
    client: str
    code: str
    challenge: str
    asked_s: int


class Door(StrEnum):
    """What the enrolment policy says about the place a visit comes from, before the record is looked at."""

    OPEN = "open"
    """A first client-id is let in at once."""
    ASK = "ask"
    """A first client-id waits for the operator."""
    AWAY = "away"
    """Nobody is let in from here; who is already in may keep the token it has."""
    SHUT = "shut"
    """This device gets nothing, whatever is remembered of it."""


class Outcome(StrEnum):
    GRANTED = "granted"
    WAITING = "waiting"
    KEPT = "kept"
    """No new token, and the old one is still good: the device should not be told to drop it."""
    DENIED = "denied"


def move(record: DeviceRecord, event: DeviceEvent) -> DeviceState:
    """The state after `event`. Raises TransitionError if the table has no such move."""
    state = TRANSITIONS.get((record.state, event))
    if state is None:
        raise TransitionError(f"a device that is {record.state} cannot {event}")
    return state


def admit(record: DeviceRecord, client: str, now_s: int) -> DeviceRecord:
    return replace(record, state=move(record, DeviceEvent.ADMIT), client=client, seen_s=now_s)


def visit(record: DeviceRecord, client: str, door: Door) -> Outcome:
    """What a visit of this pair comes to. GRANTED of a record that is not ENROLLED means: `admit` it."""
    if door is Door.SHUT or record.state is DeviceState.REVOKED:
        return Outcome.DENIED
    if record.state is DeviceState.APPROVED:
        return Outcome.GRANTED
    if record.state is DeviceState.ENROLLED:
        return _visit_enrolled(record, client, door)
    return {Door.OPEN: Outcome.GRANTED, Door.ASK: Outcome.WAITING}.get(door, Outcome.DENIED)


def _visit_enrolled(record: DeviceRecord, client: str, door: Door) -> Outcome:
    away = door is Door.AWAY
    if client != record.client:
        return Outcome.DENIED if away else Outcome.WAITING
    return Outcome.KEPT if away and not record.vouched else Outcome.GRANTED


def approve(record: DeviceRecord, client: str | None, now_s: int) -> DeviceRecord:
    """The operator lets `client` in; without one the client-id that is remembered, else whichever comes first."""
    approved = replace(record, state=move(record, DeviceEvent.APPROVE), vouched=True)
    client = client or record.client
    return approved if client is None else admit(approved, client, now_s)


def revoke(record: DeviceRecord, now_s: int) -> DeviceRecord:
    """From now on nothing; the client-id is kept, so that an approval brings the same one back."""
    return replace(record, state=move(record, DeviceEvent.REVOKE), vouched=False, refused_before_s=now_s + 1)


def forget(record: DeviceRecord, now_s: int) -> DeviceRecord:
    """As if never seen, but for the tokens it still holds."""
    return replace(
        record, state=move(record, DeviceEvent.FORGET), client=None, vouched=False, refused_before_s=now_s + 1
    )
