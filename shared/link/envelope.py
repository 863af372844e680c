"""The link's envelope: `[routing id] [head] [body?]`.

The head is a msgpack array `[kind, stream, seq]`; the body is raw Opus for AUDIO and a msgpack map for everything
else. `seq` counts every message of one stream in one direction from 0 (OPEN is 0 on the way to the worker), so a gap
is seen at once; on the membership lane stream and seq are 0. Unknown kinds and keys are ignored by the receiver.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from shared.errors import WorkerProtocolError
from shared.ids import StreamId

PROTO = 1
"""Version of the link. Neighbouring versions work together."""

MAX_BODY_BYTES = 64 * 1024
"""Senders refuse larger bodies; what is larger travels as several EVENTs."""

MAX_MESSAGE_BYTES = 256 * 1024
"""Fuse on the socket: libzmq disconnects a peer that sends more."""


class Kind(IntEnum):
    """All message kinds. In the order of their lanes: membership, stream, data."""

    PING = 1  # router → worker
    LEAVE = 2  # router → worker: you are not in my pool; rejoin under a new identity
    BEAT = 3  # worker → router
    OPEN = 10  # router → worker
    END = 11  # router → worker: no more input
    ABORT = 12  # router → worker: {reason, played?}
    DONE = 13  # worker → router: frees the slot
    ERROR = 14  # worker → router: {code, retryable, load}; frees the slot
    AUDIO = 20  # both: one Opus packet
    EVENT = 21  # both: {name, ...}
    CREDIT = 22  # asr → router {acked, trim}; router → tts {frames}


class Head(NamedTuple):
    kind: int
    stream: StreamId
    seq: int


_packer = msgpack.Packer(autoreset=True)


MEMBERSHIP = StreamId(0)
"""The stream number of PING, LEAVE and BEAT."""


def pack_head(kind: Kind, stream: StreamId = MEMBERSHIP, seq: int = 0) -> bytes:
    packed: bytes = _packer.pack((int(kind), stream, seq))
    return packed


def unpack_head(raw: bytes) -> Head:
    """Raises WorkerProtocolError if `raw` is not a head."""
    try:
        kind, stream, seq = msgpack.unpackb(raw, use_list=False, max_array_len=8)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WorkerProtocolError("head is not [kind, stream, seq]", code="bad_head") from error
    if not (type(kind) is int and type(stream) is int and type(seq) is int and stream >= 0 and seq >= 0):
        raise WorkerProtocolError("head is not three non-negative integers", code="bad_head")
    return Head(kind, StreamId(stream), seq)


def pack_map(body: dict[str, Any]) -> bytes:
    """Raises WorkerProtocolError if the packed body is over MAX_BODY_BYTES."""
    packed: bytes = msgpack.packb(body)
    if len(packed) > MAX_BODY_BYTES:
        raise WorkerProtocolError(f"body of {len(packed)} bytes, at most {MAX_BODY_BYTES}", code="body_too_large")
    return packed


def unpack_map(raw: bytes) -> dict[str, Any]:
    """Raises WorkerProtocolError if `raw` is not a map with string keys. Extension types, which no sender uses, are
    refused: what is passed on must be able to become JSON."""
    try:
        body = msgpack.unpackb(raw, use_list=True, ext_hook=_refuse_extension, timestamp=1)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WorkerProtocolError("body is not msgpack", code="bad_body") from error
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise WorkerProtocolError("body is not a map with string keys", code="bad_body")
    return body


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError("an extension type of MessagePack")
