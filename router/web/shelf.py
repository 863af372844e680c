"""The firmware files in `data/bin`: their names, looked at again after `firmware_cache_s`, and their paths."""

from __future__ import annotations

import asyncio
from pathlib import Path

from router.web.disk import DiskThread
from router.web.firmware import is_safe_name


class FirmwareShelf:
    def __init__(self, directory: Path, cache_s: float, disk: DiskThread) -> None:
        self._directory = directory
        self._cache_s = cache_s
        self._disk = disk
        self._names: tuple[str, ...] = ()
        self._fresh_until_s = 0.0

    async def names(self) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._fresh_until_s:
            # Set first: callers that come meanwhile take the old names instead of scanning too.
            self._fresh_until_s = loop.time() + self._cache_s
            self._names = await self._disk.run(self._scan)
        return self._names

    async def find(self, name: str) -> Path | None:
        """The file of this name, if it is one and lies in the directory itself (a link may not lead out of it)."""
        return await self._disk.run(self._find, name)

    def _scan(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(entry.name for entry in self._directory.iterdir() if is_safe_name(entry.name)))
        except OSError:
            return ()

    def _find(self, name: str) -> Path | None:
        path = (self._directory / name).resolve()
        return path if path.parent == self._directory.resolve() and path.is_file() else None
