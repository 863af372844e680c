"""Where the store is, how many threads it takes, and what its errors say: a word for the operator and no secret."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError

from shared.config.load import load
from shared.errors import ConfigError
from shared.log.setup import close, configure
from shared.process.probes import thread_count
from shared.settings import LogSettings, StoreSettings
from shared.store.database import Database, _fault, resolves_names, store_threads, store_url
from shared.store.faults import StoreDownError, StoreRefusedError
from tests.fakes.stores import StorePlace, commit_of

pytestmark = pytest.mark.unit

PASSWORD = "pa55@w/ord"
DATA = Path("/data")


def settings(url: str) -> StoreSettings:
    return StoreSettings(url=url)


@pytest.mark.parametrize(
    ("url", "driver", "place"),
    [
        ("", "sqlite+aiosqlite", "/data/store.db"),
        ("sqlite:////var/x.db", "sqlite+aiosqlite", "/var/x.db"),
        ("postgres://u:p@h/d", "postgresql+asyncpg", "h/d"),
        ("postgresql://u:p%40@h:99/d?ssl=require", "postgresql+asyncpg", "h/d"),
        ("postgresql://u@/d?host=/run/postgresql", "postgresql+asyncpg", "localhost/d"),
    ],
)
def test_urls_that_people_know_are_taken(url: str, driver: str, place: str) -> None:
    """The driver is ours to choose; what is shown of it has no password."""
    found = store_url(settings(url), DATA)
    assert found.drivername == driver
    assert Database(found, 1).place == place
    assert "p@" not in repr(Database(found, 1))


@pytest.mark.parametrize(
    "url", ["mysql://u:pa55@h/d", "postgresql+psycopg://u:pa55@h/d", "no url pa55", "sqlite://", "sqlite:///:memory:"]
)
def test_other_urls_are_refused_without_being_shown(url: str) -> None:
    """A password may stand anywhere in what is malformed."""
    with pytest.raises(ConfigError, match=r"store\.url") as caught:
        store_url(settings(url), DATA)
    assert "pa55" not in repr(caught.value)


@pytest.mark.parametrize("url", [f"mysql://u:{PASSWORD}@h/d", f"[{PASSWORD}]", f"postgresql//u:{PASSWORD}@h/d"])
def test_a_wrong_url_in_the_configuration_is_named_and_not_shown(url: str, tmp_path: Path) -> None:
    """Neither as a variable nor in the file."""
    (tmp_path / ".config.yaml").write_text(f'store:\n  url: "{url}"\n')
    for environ in ({"XZ_STORE_URL": url}, {}):
        with pytest.raises(ConfigError, match=r"store\.url|XZ_STORE_URL") as caught:
            load({"XZ_DATA_DIR": str(tmp_path), **environ})
        assert "pa55" not in str(caught.value)
        assert "w/ord" not in str(caught.value)


def test_a_good_url_is_not_in_the_repr_of_the_settings(tmp_path: Path) -> None:
    """Settings end up in logs."""
    found = load({"XZ_DATA_DIR": str(tmp_path), "XZ_STORE_URL": "postgresql://u:pa55@h/d"})
    assert found.store.url == "postgresql://u:pa55@h/d"
    assert "pa55" not in repr(found)


@pytest.mark.parametrize(
    ("url", "threads", "names"),
    [
        ("", 1, False),
        ("postgresql://u@db.example/d", 0, True),
        ("postgresql://u@10.0.0.5/d", 0, False),
        ("postgresql://u@[::1]/d", 0, False),
        ("postgresql://u@/d?host=/run/postgresql", 0, False),
        ("postgresql://u@/d?host=db.example", 0, True),
    ],
)
def test_threads_follow_from_the_url(url: str, threads: int, names: bool) -> None:
    """For the thread budget of whoever opens it."""
    assert (store_threads(settings(url)), resolves_names(settings(url))) == (threads, names)


def test_sqlite_takes_one_thread_with_a_name(tmp_path: Path) -> None:
    """However much is asked of it at once."""

    async def threads() -> tuple[int, list[str]]:
        before = thread_count()
        async with StorePlace.at(tmp_path).opened() as store:
            await asyncio.gather(*(store.ownership.claim(f"d{n}", "w", 1.0) for n in range(20)))
            return thread_count() - before, [one.name for one in threading.enumerate()]

    more, names = asyncio.run(threads())
    assert more == store_threads(settings(""))
    assert "store" in names
    all_ended()


def test_a_file_that_cannot_be_used_takes_no_thread(tmp_path: Path) -> None:
    """However often it is tried."""
    (tmp_path / "store.db").write_bytes(b"something else entirely\n" * 100)

    async def tries() -> None:
        async with StorePlace.at(tmp_path).database() as database:
            for _ in range(3):
                with pytest.raises(StoreDownError):
                    async with database.reading():
                        pass

    asyncio.run(tries())
    all_ended()


def all_ended() -> None:
    """Threads that are ending get the time they need."""
    for thread in [one for one in threading.enumerate() if one.name == "store"]:
        thread.join(60.0)
        assert not thread.is_alive()


def test_the_drivers_log_no_word_at_any_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """aiosqlite tells at DEBUG of every statement with its parameters."""

    async def work() -> None:
        async with StorePlace.at(tmp_path).opened() as store:
            claim = await store.ownership.claim("d", "w", 1.0)
            await store.dialogues.commit(commit_of(claim, 1), 1.0)

    writer = configure("test", 0, LogSettings())
    logging.getLogger().addHandler(caplog.handler)  # configure() takes all handlers off
    try:
        with caplog.at_level(logging.DEBUG):
            asyncio.run(work())
    finally:
        close(writer)
    assert "hello" not in caplog.text


def postgres_error(state: str) -> DBAPIError:
    original = asyncpg.PostgresError.new({"C": state, "M": "the words of a person", "D": "detail"})
    return DBAPIError("INSERT secret", {"text": "the words of a person"}, original)


def sqlite_error(kind: type[sqlite3.Error], name: str) -> OperationalError:
    original = kind("the words of a person")
    original.sqlite_errorname = name
    return OperationalError("INSERT secret", {}, original)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (sqlite_error(sqlite3.OperationalError, "SQLITE_BUSY"), StoreDownError, "SQLITE_BUSY"),
        (sqlite_error(sqlite3.OperationalError, "SQLITE_FULL"), StoreDownError, "SQLITE_FULL"),
        (sqlite_error(sqlite3.DatabaseError, "SQLITE_CORRUPT"), StoreDownError, "SQLITE_CORRUPT"),
        (sqlite_error(sqlite3.IntegrityError, "SQLITE_CONSTRAINT"), StoreRefusedError, "SQLITE_CONSTRAINT"),
        (postgres_error("57P01"), StoreDownError, "57P01"),
        (postgres_error("55P03"), StoreDownError, "55P03"),
        (postgres_error("40001"), StoreDownError, "40001"),
        (postgres_error("28P01"), StoreDownError, "28P01"),
        (postgres_error("53100"), StoreDownError, "53100"),
        (postgres_error("22021"), StoreRefusedError, "22021"),
        (postgres_error("23514"), StoreRefusedError, "23514"),
        (postgres_error("42P01"), StoreRefusedError, "42P01"),
        (ConnectionRefusedError(111, "the words of a person"), StoreDownError, "unreachable"),
        (TimeoutError("the words of a person"), StoreDownError, "timeout"),
        (asyncpg.InterfaceError("the words of a person"), StoreDownError, "InterfaceError"),
        (StatementError("the words", "INSERT", {}, ValueError("the words of a person")), StoreRefusedError, "Value"),
        (UnicodeEncodeError("utf-8", "the words of a person", 0, 1, "x"), StoreRefusedError, "UnicodeEncodeError"),
    ],
)
def test_an_error_says_whether_it_is_worth_trying_again_and_nothing_of_what_was_written(
    error: Exception, kind: type[Exception], says: str
) -> None:
    """Locked, full, away, restarting: again. A value or a statement that breaks a rule: never."""
    found = _fault(error)
    assert type(found) is kind
    assert says in str(found)
    assert "words" not in repr(found)
    assert "secret" not in repr(found)
