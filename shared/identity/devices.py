"""Which devices are remembered: one SQLite file that the web processes, the routers and `xiaozhi devices` share.

* DeviceRegistry decides nothing: each method is one transaction around a rule of `shared.identity.enrol`. It waits for
  locks, so on an event loop it belongs to a thread.
* DeviceReader is for a router's loop. In WAL mode a reader waits for no writer and needs no fsync: a lookup is one
  indexed read of the page cache (about 10 microseconds). It has no busy timeout: should SQLite ever want to wait, the
  lookup fails at once, is counted, and says "nothing is remembered", so that a broken file cannot keep devices out
  whose signature is good.

WAL needs shared memory, so the file must lie on a local disk. Times are Unix seconds.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from shared.errors import XiaozhiError
from shared.identity import enrol
from shared.identity.enrol import (
    AmbiguousApprovalError,
    DeviceNotFoundError,
    DeviceRecord,
    DeviceState,
    Door,
    Outcome,
    WaitingRequest,
)
from shared.identity.metrics import REGISTRY_ERRORS

_log = structlog.get_logger(__name__)

SCHEMA_VERSION = 1
SEEN_EVERY_S = 3600
"""How stale `seen_s` may be: a boot loop must not become a write loop."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS devices (
        device TEXT PRIMARY KEY, state TEXT NOT NULL, client TEXT, vouched INTEGER NOT NULL,
        refused_before_s INTEGER NOT NULL, first_seen_s INTEGER NOT NULL, seen_s INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS waiting (
        device TEXT NOT NULL, client TEXT NOT NULL, code TEXT NOT NULL UNIQUE, challenge TEXT NOT NULL,
        asked_s INTEGER NOT NULL, PRIMARY KEY (device, client)
    )""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_DEVICE_COLUMNS = "device, state, client, vouched, refused_before_s, first_seen_s, seen_s"
_WAITING_COLUMNS = "device, client, code, challenge, asked_s"
_SELECT_DEVICE = f"SELECT {_DEVICE_COLUMNS} FROM devices WHERE device = ?"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much strangers can make the file hold: anybody on the local network can make up device-ids."""

    devices: int = 100_000
    """A first visit beyond is refused."""
    waiting: int = 1_000
    """The oldest request beyond is dropped; its device is given a new code when it asks again."""


DEFAULT_LIMITS = Limits()


class RegistryError(XiaozhiError):
    """The file of remembered devices cannot be used: damaged, unreadable, newer than this program, or locked."""

    code = "device_registry"


def devices_path(data_dir: Path) -> Path:
    return data_dir / "devices.db"


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of a device's visit; `request` is set while it waits for the operator."""

    outcome: Outcome
    record: DeviceRecord
    request: WaitingRequest | None = None


def _random_code() -> str:
    return f"{secrets.randbelow(1_000_000):06d}"


def _record(row: tuple[str, str, str | None, int, int, int, int]) -> DeviceRecord:
    device, state, client, vouched, refused_before_s, first_seen_s, seen_s = row
    return DeviceRecord(device, DeviceState(state), client, bool(vouched), refused_before_s, first_seen_s, seen_s)


class DeviceRegistry:
    """The file, for reading and writing. One thread at a time."""

    def __init__(
        self, db: sqlite3.Connection, *, make_code: Callable[[], str] = _random_code, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._db = db
        self._make_code = make_code
        self._limits = limits

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        wait_s: float = 5.0,
        make_code: Callable[[], str] = _random_code,
        limits: Limits = DEFAULT_LIMITS,
    ) -> DeviceRegistry:
        """Creates the file, readable by its owner only, where there is none. Raises RegistryError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite would create it with the umask's rights; its -wal and -shm files copy those of the file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            registry = cls(_connect(path, wait_s), make_code=make_code, limits=limits)
            registry._create()
        except (OSError, sqlite3.Error) as error:
            raise RegistryError(f"{path}: {error}") from error
        return registry

    def close(self) -> None:
        self._db.close()

    def find(self, device: str) -> DeviceRecord | None:
        rows = self._db.execute(_SELECT_DEVICE, (device,)).fetchall()
        return _record(rows[0]) if rows else None

    def devices(self) -> list[DeviceRecord]:
        """All that are remembered, by device-id; forgotten ones are not among them."""
        rows = self._db.execute(
            f"SELECT {_DEVICE_COLUMNS} FROM devices WHERE state != ? ORDER BY device", (DeviceState.NEW,)
        )
        return [_record(row) for row in rows.fetchall()]

    def waiting(self) -> list[WaitingRequest]:
        """The pairs that wait for approval, oldest first."""
        rows = self._db.execute(f"SELECT {_WAITING_COLUMNS} FROM waiting ORDER BY asked_s, code")
        return [WaitingRequest(*row) for row in rows.fetchall()]

    def visit(self, device: str, client: str, door: Door, now_s: int) -> Visit:
        """A device has asked for its token. A known pair that was seen within the hour is not written."""
        known = self.find(device)
        if known is not None and enrol.visit(known, client, door) is Outcome.GRANTED and _is_fresh(known, now_s):
            return Visit(Outcome.GRANTED, known)
        with self._transaction():
            return self._visit(device, client, door, now_s)

    def _visit(self, device: str, client: str, door: Door, now_s: int) -> Visit:
        stored = self.find(device)
        record = stored or DeviceRecord(device, first_seen_s=now_s, seen_s=now_s)
        outcome = enrol.visit(record, client, door)
        if outcome is Outcome.WAITING:
            return Visit(outcome, record, self._ask(device, client, now_s))
        if outcome is not Outcome.GRANTED:
            return Visit(outcome, record)
        if stored is None and self._count("devices") >= self._limits.devices:
            _log.error("device_registry_full", devices=self._limits.devices)
            return Visit(Outcome.DENIED, record)
        if record.state is DeviceState.ENROLLED:
            record = replace(record, seen_s=now_s)
        else:
            record = enrol.admit(record, client, now_s)
        self._store(record)
        return Visit(outcome, record)

    def _ask(self, device: str, client: str, now_s: int) -> WaitingRequest:
        """The pair's request: the one that waits already, so that its code is stable, or a new one."""
        found = self._waiting_of(device, client)
        if found:
            return found[0]
        while self._count("waiting") >= self._limits.waiting:
            self._db.execute(
                "DELETE FROM waiting WHERE code = (SELECT code FROM waiting ORDER BY asked_s, rowid LIMIT 1)"
            )
        request = WaitingRequest(device, client, self._unused_code(), secrets.token_hex(16), now_s)
        self._db.execute(
            f"INSERT INTO waiting ({_WAITING_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            (request.device, request.client, request.code, request.challenge, request.asked_s),
        )
        return request

    def _unused_code(self) -> str:
        while True:
            code = self._make_code()
            if not self._db.execute("SELECT 1 FROM waiting WHERE code = ?", (code,)).fetchall():
                return code

    def _waiting_of(self, device: str, client: str | None = None) -> list[WaitingRequest]:
        rows = self._db.execute(
            f"SELECT {_WAITING_COLUMNS} FROM waiting WHERE device = ? AND client = coalesce(?, client)",
            (device, client),
        )
        return [WaitingRequest(*row) for row in rows.fetchall()]

    def approve(self, code_or_device: str, now_s: int) -> DeviceRecord:
        """Let in the pair that shows this code, or this device.

        A device-id stands for the client that waits, if one does, else for the remembered one, else for the first to
        come. Raises AmbiguousApprovalError if several of its clients wait, DeviceNotFoundError for an unknown code.
        """
        with self._transaction():
            device, client = self._named(code_or_device)
            record = enrol.approve(self._record_of(device, now_s), client, now_s)
            self._store(record)
            self._db.execute("DELETE FROM waiting WHERE device = ?", (device,))
            return record

    def _named(self, code_or_device: str) -> tuple[str, str | None]:
        rows = self._db.execute("SELECT device, client FROM waiting WHERE code = ?", (code_or_device,)).fetchall()
        if rows:
            device, client = rows[0]
            return device, client
        if code_or_device.isdigit() and self.find(code_or_device) is None:
            raise DeviceNotFoundError(f"no device waits with the code {code_or_device}")
        waiting = self._waiting_of(code_or_device)
        if len(waiting) > 1:
            codes = ", ".join(request.code for request in waiting)
            raise AmbiguousApprovalError(f"{len(waiting)} clients of {code_or_device} wait; approve one of {codes}")
        return code_or_device, waiting[0].client if waiting else None

    def revoke(self, device: str, now_s: int) -> DeviceRecord:
        """Refuse the device and every token it has. A device that was never seen may be revoked too."""
        with self._transaction():
            record = enrol.revoke(self._record_of(device, now_s), now_s)
            self._store(record)
            self._db.execute("DELETE FROM waiting WHERE device = ?", (device,))
            return record

    def forget(self, device: str, now_s: int) -> DeviceRecord:
        """Let the device begin anew with any client-id. Raises DeviceNotFoundError if nothing is remembered of it."""
        with self._transaction():
            stored = self.find(device)
            dropped = self._db.execute("DELETE FROM waiting WHERE device = ?", (device,)).rowcount
            if stored is None and not dropped:
                raise DeviceNotFoundError(f"nothing is remembered of {device}")
            record = enrol.forget(self._record_of(device, now_s), now_s)
            self._store(record)
            return record

    def _record_of(self, device: str, now_s: int) -> DeviceRecord:
        return self.find(device) or DeviceRecord(device, first_seen_s=now_s, seen_s=now_s)

    def _store(self, record: DeviceRecord) -> None:
        self._db.execute(
            f"INSERT OR REPLACE INTO devices ({_DEVICE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                record.device,
                record.state,
                record.client,
                int(record.vouched),
                record.refused_before_s,
                record.first_seen_s,
                record.seen_s,
            ),
        )

    def _count(self, table: str) -> int:
        (count,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
        return int(count)

    def _create(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchall()[0]
        if version > SCHEMA_VERSION:
            raise RegistryError(f"the file of devices has version {version}, this program knows {SCHEMA_VERSION}")
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            for statement in _SCHEMA:
                self._db.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a transaction that reads first and then wants to write fails at once if another wrote in between.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


class DeviceReader:
    """A DeviceLookup that never waits, for a process that only asks."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    def open(cls, path: Path) -> DeviceReader:
        """Waits for locks, as the file may have to be created: not on a busy loop. Raises RegistryError."""
        DeviceRegistry.open(path).close()
        try:
            db = _connect(path, 0.0)
            db.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise RegistryError(f"{path}: {error}") from error
        return cls(db)

    def close(self) -> None:
        self._db.close()

    def lookup(self, device: str) -> DeviceRecord | None:
        try:
            rows = self._db.execute(_SELECT_DEVICE, (device,)).fetchall()
        except sqlite3.Error as error:
            REGISTRY_ERRORS.inc()
            _log.error("device_registry_unreadable", error=str(error))
            return None
        return _record(rows[0]) if rows else None


def _connect(path: Path, wait_s: float) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _is_fresh(record: DeviceRecord, now_s: int) -> bool:
    return record.state is DeviceState.ENROLLED and now_s - record.seen_s < SEEN_EVERY_S
