"""The one thread of the web process that touches the disk: the file of devices, firmware files, state files.

It is also the loop's default executor, so that aiohttp's file responses use it and no other thread is ever made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from router.web import metrics

Args = TypeVarTuple("Args")
Result = TypeVar("Result")

DISK_THREADS = 1


class DiskThread:
    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk")

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_default_executor(self._executor)

    async def run(self, function: Callable[[*Args], Result], *args: *Args) -> Result:
        with metrics.DISK_CALLS.track_inprogress():
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def close(self) -> None:
        """Waits for what is under way."""
        self._executor.shutdown(wait=True)
