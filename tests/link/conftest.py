from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.fakes.link_rig import LinkRig


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LinkRig]:
    made = LinkRig(f"ipc://{tmp_path}/r0-tts")
    yield made
    await made.close()
