"""What contracts are checked on: each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import StoreSettings
from tests.fakes.postgres import NO_POSTGRES, PostgresServer, postgres_programs, postgres_server
from tests.fakes.stores import StorePlace


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process; each takes a database of its own."""
    if postgres_programs() is None:
        pytest.skip(NO_POSTGRES)
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    """An empty store, once of each kind."""
    if request.param == "sqlite":
        return StorePlace(StoreSettings(), tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return StorePlace(StoreSettings(url=server.new_database()), tmp_path)
