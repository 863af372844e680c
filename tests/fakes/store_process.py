"""`python -m tests.fakes.store_process URL DATA_DIR DOES ...`: another process that works on a store.

* migrate: makes the tables.
* claim HOLDER ROUNDS DEVICE...: claims the devices in turn, ROUNDS times; prints each device and epoch.
* commit HOLDER DEVICE: commits turns 0, 1, 2 … until it is killed; prints the number of each that is committed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from shared.settings import StoreSettings
from shared.store.store import Store
from tests.fakes.stores import commit_of


async def main(url: str, data_dir: str, does: str, *words: str) -> None:
    settings = StoreSettings(url=url)
    store = await Store.open(settings, Path(data_dir), migrates=does == "migrate")
    if does == "claim":
        holder, rounds, *devices = words
        for device in devices * int(rounds):
            claim = await store.ownership.claim(device, holder, 0.0)
            say(claim.device, claim.epoch)
    elif does == "commit":
        holder, device = words
        claim = await store.ownership.claim(device, holder, 0.0)
        for gen in itertools.count():
            await store.dialogues.commit(commit_of(claim, gen), 0.0)
            say(gen)
    await store.close()


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
