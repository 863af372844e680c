"""Whether a device may connect: HMAC tokens, the list of allowed devices, and what is remembered of a device.

A token is `signature.issued`: `issued` in Unix seconds, the signature is the unpadded base64url of
HMAC-SHA256(key, "client-id|device-id|issued"). xinnan-tech/xiaozhi-esp32-server (core/auth.py) signs the same way, so
tokens of either server are good at the other while both use one key.

Rules:
* A client-id holds no "|": with one, another device's signed text could be read as this one's.
* The record is looked up only behind a good signature, or for a listed device: strangers cost no disk access.
* A device of `allowed_devices` needs no token until its client-id is remembered, which happens when it fetches a
  token. From then on its id alone is not enough.

Pure: the caller brings the clock and the lookup. A token is a secret: none is ever logged or put in an error.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shared.identity.enrol import DeviceRecord, DeviceState
from shared.settings import AuthSettings

MAX_ID_CHARS = 64
MAX_TOKEN_CHARS = 128
MAX_FUTURE_S = 300
"""How far a token's time may lie ahead: clocks of two machines differ."""


class AuthReason(StrEnum):
    """Why a device was let in or refused; a bounded metric label."""

    TOKEN = "token"
    LISTED = "listed"
    DISABLED = "disabled"
    BAD_DEVICE_ID = "bad_device_id"
    NOT_LISTED = "not_listed"
    MISSING = "missing"
    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    FUTURE = "future"
    REVOKED = "revoked"
    WRONG_CLIENT = "wrong_client"


_ACCEPTED = frozenset({AuthReason.TOKEN, AuthReason.LISTED, AuthReason.DISABLED})


@dataclass(frozen=True, slots=True)
class AuthResult:
    reason: AuthReason

    @property
    def accepted(self) -> bool:
        return self.reason in _ACCEPTED


class DeviceLookup(Protocol):
    """What the gateway needs of the registry. Called on an event loop: it must not wait."""

    def lookup(self, device: str) -> DeviceRecord | None:
        """What is remembered of the device; None if nothing is."""


def clean_device_id(raw: str | None) -> str | None:
    """The device-id in a header or query, or None if it is not 1..64 printable characters."""
    if raw is None:
        return None
    try:
        # websockets decodes headers as ASCII, aiohttp as UTF-8, both with surrogate escapes: this gives the same text.
        text = raw.strip().encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return None
    return text if 1 <= len(text) <= MAX_ID_CHARS and text.isprintable() else None


def clean_client_id(raw: str | None) -> str | None:
    """The same for a client-id, which also holds no "|"."""
    text = clean_device_id(raw)
    return None if text is None or "|" in text else text


def _signature(key: str, client_id: str, device_id: str, issued: str) -> str:
    signed = f"{client_id}|{device_id}|{issued}".encode()
    digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def make_token(key: str, client_id: str, device_id: str, now_s: float) -> str:
    """A token for ids that `clean_client_id` and `clean_device_id` have passed."""
    issued = str(int(now_s))
    return f"{_signature(key, client_id, device_id, issued)}.{issued}"


def check_token(
    key: str,
    token: str,
    client_id: str,
    device_id: str,
    *,
    now_s: float,
    expire_s: int,
    registry: DeviceLookup | None = None,
) -> AuthResult:
    """Whether this token lets this pair in. Without `registry` only signature and age are looked at."""
    if not token:
        return AuthResult(AuthReason.MISSING)
    issued_s = _issued_s(token)
    if issued_s is None or "|" in client_id:
        return AuthResult(AuthReason.MALFORMED)
    expected = f"{_signature(key, client_id, device_id, str(issued_s))}.{issued_s}"
    if not hmac.compare_digest(expected.encode(), token.encode()):
        return AuthResult(AuthReason.BAD_SIGNATURE)
    if now_s - issued_s > expire_s:
        return AuthResult(AuthReason.EXPIRED)
    if issued_s - now_s > MAX_FUTURE_S:
        return AuthResult(AuthReason.FUTURE)
    remembered = None if registry is None else registry.lookup(device_id)
    return AuthResult(AuthReason.TOKEN if remembered is None else _against_record(remembered, client_id, issued_s))


def _issued_s(token: str) -> int | None:
    """When a well-formed token says it was issued."""
    signature, dot, issued = token.rpartition(".")
    if not (dot and signature and token.isascii() and len(token) <= MAX_TOKEN_CHARS):
        return None
    return int(issued) if issued.isdigit() and len(issued) <= 12 else None


def _against_record(record: DeviceRecord, client_id: str, issued_s: int) -> AuthReason:
    if record.state is DeviceState.REVOKED or issued_s < record.refused_before_s:
        return AuthReason.REVOKED
    if record.client is not None and record.client != client_id:
        return AuthReason.WRONG_CLIENT
    return AuthReason.TOKEN


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header; empty if there is none of the Bearer scheme."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def authorise(
    settings: AuthSettings,
    device_id: str | None,
    client_id: str | None,
    authorization: str | None,
    *,
    now_s: float,
    registry: DeviceLookup,
) -> AuthResult:
    """Whether a device may open a conversation. Decided before the upgrade; a refusal is answered with 401.

    The ids come from a request as they are; `device_id` is checked here.
    """
    device = clean_device_id(device_id)
    if device is None:
        return AuthResult(AuthReason.BAD_DEVICE_ID)
    if not settings.enabled:
        return AuthResult(AuthReason.DISABLED)
    listed = device in settings.allowed_devices
    if settings.enroll == "allowlist" and not listed:
        return AuthResult(AuthReason.NOT_LISTED)
    if listed and (known := _listed_without_token(registry.lookup(device))):
        return AuthResult(known)
    client = clean_client_id(client_id) or ""
    token = bearer_token(authorization)
    return check_token(settings.key, token, client, device, now_s=now_s, expire_s=settings.expire_s, registry=registry)


def _listed_without_token(record: DeviceRecord | None) -> AuthReason | None:
    """What a listed device gets by its id alone; None = it needs its token."""
    if record is None or (record.client is None and record.state is not DeviceState.REVOKED):
        return AuthReason.LISTED
    return AuthReason.REVOKED if record.state is DeviceState.REVOKED else None
