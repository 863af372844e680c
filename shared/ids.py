"""Names for the numbers and strings that identify things, so that a type checker keeps them apart."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

SessionId = NewType("SessionId", str)
"""The conversation on one device connection; random, shown to the device."""

DeviceId = NewType("DeviceId", str)
"""What the device calls itself: any printable string of up to 64 characters, normally its MAC address."""

StreamId = NewType("StreamId", int)
"""One job opened on a worker. Minted by the router, never reused in its life. 0 = the membership lane."""

WorkerId = NewType("WorkerId", str)
"""ZeroMQ identity of one incarnation of a worker: role-slot.boot."""

Generation = NewType("Generation", int)
"""The life of one reply of one session; raised by the router only."""


class Role(StrEnum):
    """The pools a router places streams on."""

    ASR = "asr"
    TTS = "tts"
    SESSION = "session"
