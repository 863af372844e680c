"""Opus packets out of a stream of Ogg pages (RFC 3533, RFC 7845). Pure.

A page's checksum is not looked at: TCP has one, and a page that is cut wrong does not begin with its mark.
"""

from __future__ import annotations

from typing import Final

_MARK: Final = b"OggS"
_HEADER_BYTES: Final = 27
_LACED: Final = 255
"""A segment of this length goes on in the next one."""
HEADERS: Final = 2
"""Packets before the first sound: OpusHead and OpusTags."""
OPUS_RATE_HZ: Final = 48_000
"""Opus counts in samples of this rate, whatever it was recorded with."""


class OpusPages:
    """One stream's pages, cut anywhere."""

    def __init__(self) -> None:
        self._data = b""
        self._packet = b""
        self._headers = 0
        self.preskip = 0
        """Samples at OPUS_RATE_HZ at the beginning that are not to be heard; known with the first packet."""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets of sound that are whole now. Raises ValueError for what is no Opus in Ogg."""
        self._data += data
        packets: list[bytes] = []
        while (page := self._page()) is not None:
            packets += self._sound(page)
        return packets

    def _page(self) -> list[bytes] | None:
        """The packets that end on the next page; None: it is not whole."""
        head = self._data[:_HEADER_BYTES]
        if not _MARK.startswith(head[:4]):
            raise ValueError("no Ogg page")
        if len(head) < _HEADER_BYTES or len(self._data) < _HEADER_BYTES + head[26]:
            return None
        lacing = self._data[_HEADER_BYTES : _HEADER_BYTES + head[26]]
        at = _HEADER_BYTES + len(lacing)
        if len(self._data) < at + sum(lacing):
            return None
        packets = []
        for length in lacing:
            self._packet += self._data[at : at + length]
            at += length
            if length < _LACED:
                packets.append(self._packet)
                self._packet = b""
        self._data = self._data[at:]
        return packets

    def _sound(self, packets: list[bytes]) -> list[bytes]:
        sound = []
        for packet in packets:
            if self._headers == 0:
                self._read_head(packet)
            if self._headers < HEADERS:
                self._headers += 1
            else:
                sound.append(packet)
        return sound

    def _read_head(self, packet: bytes) -> None:
        if packet[:8] != b"OpusHead" or len(packet) < 19:
            raise ValueError("no Opus in these pages")
        self.preskip = int.from_bytes(packet[10:12], "little")
