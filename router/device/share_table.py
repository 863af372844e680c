"""The connection counts of all routers behind one listening socket, in one small mapped file.

A slot holds two 8-byte numbers, which a machine writes whole: when the router told its count, and the count. A torn
pair is a count that is one change old. A router that leaves clears its slot, one that dies lets it grow stale.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from router.device.fair_share import Share
from shared.settings import METRICS_OFFSETS

SLOTS = METRICS_OFFSETS["session"] - METRICS_OFFSETS["router"]
FILE = "router-shares"

_SLOT = struct.Struct("@dq")


class ShareTable:
    """`slot` is this router's; the others are its siblings. Raises OSError if the file cannot be made."""

    def __init__(self, run_dir: Path, slot: int) -> None:
        self._slot = slot
        descriptor = os.open(run_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, SLOTS * _SLOT.size)
            self._map = mmap.mmap(descriptor, SLOTS * _SLOT.size)
        finally:
            os.close(descriptor)

    def tell(self, connections: int, now: float) -> None:
        _SLOT.pack_into(self._map, self._slot * _SLOT.size, now, connections)

    def siblings(self) -> list[Share]:
        """Of the other slots that were ever told."""
        shares = (
            Share(*_SLOT.unpack_from(self._map, slot * _SLOT.size)) for slot in range(SLOTS) if slot != self._slot
        )
        return [share for share in shares if share.told_at > 0.0]

    def close(self) -> None:
        """This router accepts no more."""
        _SLOT.pack_into(self._map, self._slot * _SLOT.size, 0.0, 0)
        self._map.close()
