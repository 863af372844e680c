"""`python -m bench.store [--url URL]`: how fast the store is, one thing after the other, as a session worker uses it.

Without a URL: SQLite in a new temporary directory. The tables are made where the URL points, and filled: give it a
database of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.settings import StoreSettings
from shared.store.model import Commit, Parcel, StoredMessage, StoredTurn
from shared.store.store import Store

HISTORY_TURNS = 20
WAITING_PARCELS = 2000
LEASES = 10
ASKED = "what will the weather be like tomorrow afternoon"
ANSWERED = "It will be sunny and warm, with a light wind from the west. " * 3


async def measure(url: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="xz-bench-") as directory:
        store = await Store.open(StoreSettings(url=url), Path(directory), migrates=True)
        try:
            await measure_all(store, rounds, f"bench-{time.time_ns()}")
        finally:
            await store.close()


async def measure_all(store: Store, rounds: int, name: str) -> None:
    now = time.time()
    await timed("claim", rounds, lambda n: store.ownership.claim(f"{name}-{n % 200}", name, now))
    claim = await store.ownership.claim(name, name, now)
    await timed(
        "commit of one turn", rounds, lambda n: store.dialogues.commit(Commit(claim, (turn(name, n, now),)), now)
    )
    await timed(
        f"load of {HISTORY_TURNS} turns", rounds, lambda n: store.dialogues.load(name, now, 300.0, HISTORY_TURNS)
    )
    await timed("lost claims, 200 devices", rounds, lambda n: store.ownership.lost("other", claim.epoch - 200))
    await store.outbox.put([Parcel(name, f"{name}-{n}", name, {"n": n}) for n in range(WAITING_PARCELS)], now)
    await timed(
        f"lease of {LEASES} among {WAITING_PARCELS}",
        min(rounds, WAITING_PARCELS // LEASES),
        lambda n: store.outbox.lease(name, [name], now, 60.0, LEASES),
    )
    await store.forget(name, now)


def turn(session: str, gen: int, at_s: float) -> StoredTurn:
    return StoredTurn(session, gen, at_s, (StoredMessage("user", ASKED), StoredMessage("assistant", ANSWERED)))


async def timed(what: str, rounds: int, work: Callable[[int], Awaitable[object]]) -> None:
    took_s = []
    began_cpu_s = time.process_time()
    for n in range(rounds):
        began_s = time.perf_counter()
        await work(n)
        took_s.append(time.perf_counter() - began_s)
    cpu_ms = (time.process_time() - began_cpu_s) / rounds * 1000
    took_s.sort()
    p50_ms, p99_ms = (took_s[int(rounds * part)] * 1000 for part in (0.5, 0.99))
    print(f"{what:28} {rounds / sum(took_s):6.0f}/s  p50 {p50_ms:6.2f} ms  p99 {p99_ms:6.2f} ms  CPU {cpu_ms:5.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.store", description=__doc__)
    parser.add_argument("--url", default="", help="postgresql://user@/database?host=/run/postgresql, for instance")
    parser.add_argument("--rounds", type=int, default=500)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.url, arguments.rounds))


if __name__ == "__main__":
    main()
