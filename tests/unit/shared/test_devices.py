"""The file of remembered devices, with a real SQLite file."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.identity.devices import SEEN_EVERY_S, DeviceReader, DeviceRegistry, Limits, RegistryError, devices_path
from shared.identity.enrol import AmbiguousApprovalError, DeviceNotFoundError, DeviceState, Door, Outcome

pytestmark = pytest.mark.unit

NOW_S = 1_723_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return devices_path(tmp_path / "data")


@pytest.fixture
def registry(path: Path) -> Iterator[DeviceRegistry]:
    opened = DeviceRegistry.open(path)
    yield opened
    opened.close()


def test_first_pair_is_remembered_over_a_restart(path: Path, registry: DeviceRegistry) -> None:
    """Another process, later, knows the pair."""
    assert registry.visit("aa", "one", Door.OPEN, NOW_S).outcome is Outcome.GRANTED
    again = DeviceRegistry.open(path)
    record = again.find("aa")
    assert record is not None
    assert (record.client, record.state, record.first_seen_s) == ("one", DeviceState.ENROLLED, NOW_S)
    assert again.visit("aa", "two", Door.OPEN, NOW_S).outcome is Outcome.WAITING
    again.close()


def test_code_of_a_pair_is_stable_six_digits(registry: DeviceRegistry) -> None:
    """A device that asks again shows the same code and challenge; another pair has another."""
    first, again = (registry.visit("aa", "one", Door.ASK, NOW_S + i).request for i in range(2))
    other = registry.visit("aa", "two", Door.ASK, NOW_S).request
    assert first is not None
    assert first == again
    assert len(first.code) == 6 and first.code.isdigit() and first.challenge
    assert other is not None and other.code != first.code


def test_codes_never_collide(path: Path) -> None:
    """A code that already waits is not given a second time."""
    codes = iter(["000001", "000001", "000002"])
    registry = DeviceRegistry.open(path, make_code=lambda: next(codes))
    registry.visit("aa", "one", Door.ASK, NOW_S)
    registry.visit("bb", "one", Door.ASK, NOW_S)
    assert [request.code for request in registry.waiting()] == ["000001", "000002"]
    registry.close()


def test_approving_a_code_lets_that_pair_in(registry: DeviceRegistry) -> None:
    """The pair that showed the code is remembered, and nothing waits for the device any more."""
    registry.visit("aa", "thief", Door.ASK, NOW_S)
    request = registry.visit("aa", "one", Door.ASK, NOW_S).request
    assert request is not None
    assert registry.approve(request.code, NOW_S + 1).client == "one"
    assert registry.waiting() == []
    assert registry.visit("aa", "one", Door.ASK, NOW_S + 2).outcome is Outcome.GRANTED
    assert registry.visit("aa", "thief", Door.ASK, NOW_S + 2).outcome is Outcome.WAITING


def test_approving_a_device_id_takes_the_only_waiting_client(registry: DeviceRegistry) -> None:
    """With one client waiting the id says enough."""
    registry.visit("aa", "one", Door.ASK, NOW_S)
    assert registry.approve("aa", NOW_S).client == "one"


def test_approving_a_device_id_with_two_waiting_clients_is_ambiguous(registry: DeviceRegistry) -> None:
    """Then the code must be named, and nothing changes."""
    registry.visit("aa", "one", Door.ASK, NOW_S)
    registry.visit("aa", "two", Door.ASK, NOW_S)
    with pytest.raises(AmbiguousApprovalError):
        registry.approve("aa", NOW_S)
    assert registry.find("aa") is None


def test_approving_an_unseen_device_id_lets_its_first_client_in(registry: DeviceRegistry) -> None:
    """The operator may name a device before it ever came."""
    registry.approve("aa", NOW_S)
    assert registry.visit("aa", "one", Door.AWAY, NOW_S).outcome is Outcome.GRANTED


def test_unknown_code_is_refused(registry: DeviceRegistry) -> None:
    """A mistyped code approves nothing, not even a device of that name."""
    with pytest.raises(DeviceNotFoundError):
        registry.approve("123456", NOW_S)
    assert registry.devices() == []


def test_revoked_and_forgotten(registry: DeviceRegistry) -> None:
    """Revoked: nothing until approved. Forgotten: anew, and no longer listed."""
    registry.visit("aa", "one", Door.OPEN, NOW_S)
    registry.revoke("aa", NOW_S + 5)
    assert registry.visit("aa", "one", Door.OPEN, NOW_S + 6).outcome is Outcome.DENIED
    assert [record.state for record in registry.devices()] == [DeviceState.REVOKED]
    registry.forget("aa", NOW_S + 7)
    assert registry.devices() == []
    visit = registry.visit("aa", "two", Door.OPEN, NOW_S + 8)
    assert visit.outcome is Outcome.GRANTED
    assert visit.record.refused_before_s == NOW_S + 8
    with pytest.raises(DeviceNotFoundError):
        registry.forget("zz", NOW_S)


def test_steady_device_is_not_written(path: Path, registry: DeviceRegistry) -> None:
    """A known pair's boots within the hour need no lock: they pass while another process writes."""
    registry.visit("aa", "one", Door.OPEN, NOW_S)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    impatient = DeviceRegistry(sqlite3.connect(path, timeout=0, isolation_level=None))
    assert impatient.visit("aa", "one", Door.OPEN, NOW_S + SEEN_EVERY_S - 1).outcome is Outcome.GRANTED
    with pytest.raises(sqlite3.OperationalError):
        impatient.visit("bb", "one", Door.OPEN, NOW_S)
    writer.execute("ROLLBACK")
    writer.close()
    impatient.close()


def test_reader_never_waits_for_a_writer(path: Path, registry: DeviceRegistry) -> None:
    """A lookup answers from the last commit while a write transaction is open."""
    registry.visit("aa", "one", Door.OPEN, NOW_S)
    reader = DeviceReader.open(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE devices SET state = 'revoked'")
    record = reader.lookup("aa")
    assert record is not None and record.state is DeviceState.ENROLLED
    writer.execute("COMMIT")
    record = reader.lookup("aa")
    assert record is not None and record.state is DeviceState.REVOKED
    assert reader.lookup("zz") is None
    writer.close()
    reader.close()


def test_reader_does_not_hold_up_the_log_of_writes(path: Path, registry: DeviceRegistry) -> None:
    """A lookup leaves no read transaction open, so that a checkpoint can finish."""
    registry.visit("aa", "one", Door.OPEN, NOW_S)
    reader = DeviceReader.open(path)
    reader.lookup("aa")
    registry.visit("bb", "one", Door.OPEN, NOW_S)
    other = sqlite3.connect(path)
    busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    other.close()
    reader.close()


def test_reader_cannot_write(path: Path) -> None:
    """A router only asks."""
    reader = DeviceReader.open(path)
    with pytest.raises(sqlite3.OperationalError):
        reader._db.execute("DELETE FROM devices")
    reader.close()


def test_unreadable_file_keeps_nobody_out(path: Path, registry: DeviceRegistry) -> None:
    """A reader whose file is broken says "nothing is remembered" instead of failing the connection."""
    reader = DeviceReader.open(path)
    registry._db.execute("DROP TABLE devices")
    assert reader.lookup("aa") is None
    reader.close()


def test_several_processes_may_visit_at_once(path: Path, registry: DeviceRegistry) -> None:
    """Of many clients that ask at the same time for one device, exactly one is the first."""
    outcomes: list[Outcome] = []

    def visit(client: str) -> None:
        mine = DeviceRegistry.open(path)
        outcomes.append(mine.visit("aa", client, Door.OPEN, NOW_S).outcome)
        mine.close()

    threads = [threading.Thread(target=visit, args=(f"client-{n}",), name=f"visit-{n}") for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Outcome.GRANTED, *[Outcome.WAITING] * 7]


def test_waiting_requests_are_bounded(path: Path) -> None:
    """Made-up devices push out the oldest request, never a remembered device."""
    registry = DeviceRegistry.open(path, limits=Limits(waiting=3))
    for n in range(5):
        registry.visit(f"device-{n}", "one", Door.ASK, NOW_S + n)
    assert [request.device for request in registry.waiting()] == ["device-2", "device-3", "device-4"]
    registry.close()


def test_remembered_devices_are_bounded(path: Path) -> None:
    """A full registry refuses new devices and keeps the known ones."""
    registry = DeviceRegistry.open(path, limits=Limits(devices=2))
    outcomes = [registry.visit(f"device-{n}", "one", Door.OPEN, NOW_S).outcome for n in (1, 2, 3, 1)]
    assert outcomes == [Outcome.GRANTED, Outcome.GRANTED, Outcome.DENIED, Outcome.GRANTED]
    registry.close()


def test_file_is_for_its_owner_only(path: Path, registry: DeviceRegistry) -> None:
    """Client-ids are as good as passwords: neither the file nor its log of writes is open to others."""
    registry.visit("aa", "one", Door.OPEN, NOW_S)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "devices.db-wal" in modes


@pytest.mark.parametrize("content", [b"this is no database, whatever its name may say" * 20])
def test_damaged_file_is_named(path: Path, content: bytes) -> None:
    """A process refuses to start over it and says which file it is."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(RegistryError, match=r"devices\.db"):
        DeviceRegistry.open(path)


def test_newer_file_is_refused(path: Path, registry: DeviceRegistry) -> None:
    """An older program does not write into a newer one's file."""
    registry._db.execute("PRAGMA user_version = 99")
    with pytest.raises(RegistryError, match="99"):
        DeviceReader.open(path)
