"""One connection pool to SQLite or PostgreSQL, and what its errors mean.

* SQLite: one connection, so one thread (its name is "store"); WAL; every writing transaction is BEGIN IMMEDIATE, as one
  that reads first and writes later fails at once if another wrote in between; waits BUSY_S for locks. The file belongs
  to its owner alone. It must lie on a local disk, because WAL needs shared memory.
* PostgreSQL: a small pool on the event loop itself; a connection is tried before it is used; statements and locks have
  deadlines on the server, so that a dead client holds nobody up.
* What has begun is finished, whoever stops waiting for it (`whole`): a task that is cancelled inside a transaction
  leaves its connection, and under SQLite its lock on the file, behind.
* Nothing that is raised here carries a statement, its parameters or the URL.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial, wraps
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import aiosqlite
import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.errors import ConfigError
from shared.settings import StoreSettings
from shared.store.faults import StoreDownError, StoreError, StoreRefusedError

Result = TypeVar("Result")
Given = ParamSpec("Given")

FILE_NAME = "store.db"
BUSY_S = 2.0
"""How long a SQLite statement waits for another process's transaction. Nothing can break it off, so it also bounds how
much longer than its deadline an exit may take."""
STATEMENT_S = 10.0
LOCK_S = 5.0
CONNECT_S = 5.0
POOL_WAIT_S = 10.0

SQLITE_THREADS = 1

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
WANTED_URL = "empty, or a URL such as sqlite:////var/lib/xiaozhi/store.db or postgresql://user:password@host/database"

_REFUSED = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)
_REFUSED_CLASSES = ("21", "22", "23", "42", "0A")
"""SQLSTATE classes of statements that fail again and again: cardinality, data, integrity, syntax, not supported."""
_FAULTS = (
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    ValueError,
    OverflowError,
)
"""The last two: a value that the driver cannot send. TimeoutError is an OSError."""
_READ_ONLY = {"sqlite_begin": "BEGIN"}


def store_url(settings: StoreSettings, data_dir: Path) -> URL:
    """Where the store is. Raises ConfigError, which does not show the URL: it may hold a password."""
    if not settings.url:
        return URL.create("sqlite+aiosqlite", database=str(data_dir / FILE_NAME))
    try:
        url = make_url(settings.url)
        driver = _DRIVERS[url.drivername]
    except (ArgumentError, KeyError, ValueError):
        raise ConfigError("store.url", "(not shown)", WANTED_URL) from None
    if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise ConfigError("store.url", "(not shown)", "a file, since several processes share it")
    return url.set(drivername=driver)


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def store_threads(settings: StoreSettings) -> int:
    """Threads of a process that has the store open, for its thread budget."""
    return SQLITE_THREADS if is_sqlite(store_url(settings, Path())) else 0


def resolves_names(settings: StoreSettings) -> bool:
    """Whether the store's host is a name, which the event loop resolves on threads of its own."""
    url = store_url(settings, Path())
    host = str(url.query.get("host") or url.host or "/")
    if host.startswith("/"):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


class Database:
    """The pool. `reading()` and `writing()` are its only doors."""

    def __init__(self, url: URL, pool_size: int) -> None:
        self.is_sqlite = is_sqlite(url)
        self.place = url.database if self.is_sqlite else f"{url.host or 'localhost'}/{url.database or ''}"
        """For people: a file, or host and database."""
        self._calls: set[asyncio.Task[Any]] = set()
        self._path = Path(url.database) if self.is_sqlite and url.database else None
        self._engine = _sqlite_engine(url) if self.is_sqlite else _postgres_engine(url, pool_size)
        self._reader = self._engine.execution_options(**_READ_ONLY) if self.is_sqlite else self._engine

    def __repr__(self) -> str:
        return f"Database({self.place!r})"

    def prepare(self) -> None:
        """SQLite: the file exists and belongs to its owner alone. Raises StoreDownError."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite would create it with the umask's rights; its -wal and -shm files copy those of the file.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreDownError(f"{self._path}: {error.strerror}", code="file") from None

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, or rolled back. Raises StoreError."""
        async with self._translated(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that must not write: under SQLite it waits for no writer. Raises StoreError."""
        async with self._translated(), self._reader.begin() as connection:
            yield connection

    async def whole(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The result of `call`, which goes on to its end if the caller is cancelled."""
        task = asyncio.create_task(call, name="store-call")
        self._calls.add(task)
        task.add_done_callback(self._on_called)
        return await asyncio.shield(task)

    def _on_called(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # of no interest to a caller who has gone

    async def close(self) -> None:
        """What is under way gets as long as one statement may wait."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=BUSY_S if self.is_sqlite else LOCK_S)
        await self._engine.dispose()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except StoreError:
            raise
        except _FAULTS as error:
            raise _fault(error) from None


class _Stored(Protocol):
    _database: Database


Owner = TypeVar("Owner", bound=_Stored)


def unbroken(
    method: Callable[Concatenate[Owner, Given], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Owner, Given], Coroutine[Any, Any, Result]]:
    """A method that is finished once it has begun: see `Database.whole`."""

    @wraps(method)
    async def called(owner: Owner, /, *args: Given.args, **given: Given.kwargs) -> Result:
        return await owner._database.whole(method(owner, *args, **given))

    return called


def _fault(error: BaseException) -> StoreError:
    """Without the driver's words: those quote parameters."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", type(cause).__name__)
        return _named(name, is_refused=isinstance(cause, _REFUSED))
    if isinstance(cause, (TimeoutError, PoolTimeoutError)):
        return _named("timeout", is_refused=False)
    if isinstance(cause, OSError):
        return _named("unreachable", is_refused=False)
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return _named(f"sqlstate {state}", is_refused=state[:2] in _REFUSED_CLASSES)
    # Without a state it is the driver's own: a value that it cannot send, or a connection that has gone.
    is_lost = isinstance(cause, (DBAPIError, asyncpg.InterfaceError)) or isinstance(error, DBAPIError)
    is_value = isinstance(cause, ValueError) or isinstance(cause.__cause__, ValueError)
    return _named(type(cause).__name__, is_refused=is_value or not is_lost)


def _named(what: str, *, is_refused: bool) -> StoreError:
    if is_refused:
        return StoreRefusedError(f"the store refuses: {what}")
    return StoreDownError(f"the store is not usable: {what}")


def dumps(value: Any) -> str:
    """JSON that both databases take: NaN is none, and everything else is escaped to ASCII."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _sqlite_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url,
        async_creator=partial(_connect_sqlite, str(url.database)),
        pool_size=1,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        hide_parameters=True,
        json_serializer=dumps,
    )
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


async def _connect_sqlite(path: str) -> aiosqlite.Connection:
    connection = aiosqlite.connect(path, timeout=BUSY_S, isolation_level=None, cached_statements=64)
    connection._thread.name = "store"
    connection._thread.daemon = True
    await connection
    try:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "journal_size_limit = 16777216"):
            await (await connection.execute(f"PRAGMA {pragma}")).close()
    except BaseException:
        await connection.close()  # else its thread would stay
        raise
    return connection


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE"))


def _postgres_engine(url: URL, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=dumps,
        connect_args={
            "timeout": CONNECT_S,
            "command_timeout": STATEMENT_S + 1,
            "server_settings": {
                "application_name": "xiaozhi",
                "statement_timeout": f"{STATEMENT_S:g}s",
                "lock_timeout": f"{LOCK_S:g}s",
                "idle_in_transaction_session_timeout": f"{STATEMENT_S:g}s",
            },
        },
    )
