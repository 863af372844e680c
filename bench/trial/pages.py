"""What the processes of a cluster say on their own pages, as samples for the books."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from bench import processes
from bench.trial.books import Holding, PoolCount, WorkerLoad
from bench.trial.upstream_book import METRICS, Page
from shared.ids import Role

ASK_TIMEOUT_S = 2.0
"""A process that is stopped or wedged does not answer: it is looked at the next time."""

_LINE = re.compile(r"^(xz_\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_POOL = re.compile(r'\bpool="(\w+)"')


class Pages:
    """Asks processes by their ports."""

    def __init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        self._http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True))

    async def close(self) -> None:
        await self._http.close()

    async def loads(self, router_port: int) -> list[WorkerLoad] | None:
        """None if the router does not answer."""
        page = await self._json(router_port, "/cluster")
        if page is None:
            return None
        return [_load(worker) for workers in page["pools"].values() for worker in workers]

    async def joined(self, router_port: int) -> Mapping[str, int]:
        """Workers that a router has, by pool."""
        page = await self._json(router_port, "/cluster")
        return {} if page is None else {role: len(workers) for role, workers in page["pools"].items()}

    async def counts(self, router_port: int) -> Mapping[str, PoolCount]:
        text = await self._text(router_port, "/metrics")
        return {} if text is None else {role: _count(text, role) for role in Role}

    async def holdings(self, who: Iterable[tuple[str, int, int]]) -> list[Holding]:
        """Of processes given as (name, pid, port); those that do not answer are left out."""
        found = await asyncio.gather(*(self._holding(*one) for one in who))
        return [holding for holding in found if holding is not None]

    async def sums(self, port: int, names: Iterable[str]) -> dict[str, float]:
        """Metrics of one process, each summed over its labels."""
        text = await self._text(port, "/metrics") or ""
        return {name: sum(value for _, value in _values(text, name)) for name in names}

    async def upstreams(self, who: Iterable[tuple[str, int, int]]) -> list[Page]:
        """What processes, given as for `holdings`, say of the services outside."""
        found = await asyncio.gather(*(self._upstreams(*one) for one in who))
        return [page for page in found if page is not None]

    async def _upstreams(self, name: str, pid: int, port: int) -> Page | None:
        text = await self._text(port, "/metrics")
        if text is None:
            return None
        found = (match.groups(default="") for match in _LINE.finditer(text) if match[1] in METRICS)
        return Page(name, pid, tuple((metric, labels, float(value)) for metric, labels, value in found))

    async def _holding(self, name: str, pid: int, port: int) -> Holding | None:
        text = await self._text(port, "/metrics")
        process = processes.read(pid)
        if text is None or process is None:
            return None
        own = {key: sum(value for _, value in _values(text, key)) for key in ("xz_thread_budget", "xz_process_tasks")}
        return Holding(
            name=name,
            pid=pid,
            threads=int(sum(value for _, value in _values(text, "xz_process_threads"))),
            thread_budget=int(own["xz_thread_budget"]),
            tasks=int(own["xz_process_tasks"]),
            descriptors=_descriptors(pid),
            memory_kib=process.private_kib,
        )

    async def _json(self, port: int, path: str) -> dict[str, Any] | None:
        try:
            async with self._http.get(f"http://127.0.0.1:{port}{path}") as answer:
                body: dict[str, Any] = await answer.json()
                return body
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def _text(self, port: int, path: str) -> str | None:
        try:
            async with self._http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None


def _values(text: str, name: str) -> list[tuple[str, float]]:
    """(labels, value) of each series of a metric."""
    return [(match[2] or "", float(match[3])) for match in _LINE.finditer(text) if match[1] == name]


def _count(text: str, role: str) -> PoolCount:
    def total(name: str) -> int:
        return int(sum(v for labels, v in _values(text, name) if (pool := _POOL.search(labels)) and pool[1] == role))

    return PoolCount(
        opened=total("xz_streams_opened_total"),
        ended=total("xz_streams_ended_total"),
        second_ends=total("xz_stream_second_ends_total"),
    )


def _load(worker: Mapping[str, Any]) -> WorkerLoad:
    return WorkerLoad(
        worker=str(worker["id"]),
        capacity=int(worker["capacity"]),
        active=int(worker["active"]),
        reserved=int(worker["reserved"]),
        ours=int(worker["ours"]),
    )


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0
