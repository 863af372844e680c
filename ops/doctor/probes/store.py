"""Whether the store's tables fit, without changing them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ops.doctor.store import StoreFact
from shared.errors import XiaozhiError
from shared.settings import Settings
from shared.store.database import is_sqlite, store_url
from shared.store.store import Store


def look_at_store(settings: Settings) -> StoreFact:
    data_dir = settings.cluster.data_dir
    try:
        url = store_url(settings.store, data_dir)
        if is_sqlite(url) and not Path(url.database or "").exists():
            return StoreFact(exists=False)
        asyncio.run(_open_and_close(settings, data_dir))
    except XiaozhiError as error:
        return StoreFact(exists=True, fault=error.code, detail=str(error))
    return StoreFact(exists=True)


async def _open_and_close(settings: Settings, data_dir: Path) -> None:
    store = await Store.open(settings.store, data_dir, wait_s=0.0)
    await store.close()
