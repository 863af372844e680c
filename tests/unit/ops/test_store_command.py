"""`xiaozhi up` brings the store up to date; `xiaozhi devices forget` removes a device from it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops import devices
from ops.cluster.store import bring_up_to_date
from ops.devices import run
from shared.config.load import load
from shared.identity.devices import DeviceRegistry, devices_path
from shared.identity.enrol import Door
from shared.settings import Settings
from shared.store.faults import SchemaNewerError
from shared.store.model import Commit, DeviceFacts
from shared.store.store import Store
from tests.contract.test_store_schema import set_version
from tests.fakes.stores import StorePlace, parcel, turn

pytestmark = pytest.mark.unit

DEVICE = "aa:bb:cc:dd:ee:ff"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("XZ_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("XZ_STORE_URL", raising=False)
    yield load()


def forget(device: str = DEVICE) -> int:
    parser = argparse.ArgumentParser()
    devices.add_parser(parser.add_subparsers())
    return run(parser.parse_args(["devices", "forget", device]))


async def remember(store: Store) -> None:
    claim = await store.ownership.claim(DEVICE, "w", 1.0)
    parcels = (parcel(1, device=DEVICE, audio=b"opus"), parcel(2, device=DEVICE))
    await store.dialogues.commit(
        Commit(claim, (turn(1), turn(2)), DeviceFacts({"mcp": True}), (("", "likes cats"),), parcels), 1.0
    )


def with_store(settings: Settings, does: object) -> None:
    async def work() -> None:
        async with StorePlace(settings.store, settings.cluster.data_dir).opened() as store:
            await does(store)  # type: ignore[operator]

    asyncio.run(work())


def test_forgetting_says_what_was_removed(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """History, memory, sound and the enrolment, in numbers and without a word of them."""
    with closing(DeviceRegistry.open(devices_path(settings.cluster.data_dir))) as registry:
        registry.visit(DEVICE, "client", Door.OPEN, 1)
    with_store(settings, remember)
    assert forget() == 0
    assert capsys.readouterr().out.splitlines() == [
        f"forgot {DEVICE}",
        "  removed 2 turns of its conversations",
        "  removed 1 text of memory",
        "  removed 2 reports not delivered yet, 1 of them with sound",
        "  removed its owner, features, tools and speaker",
    ]


def test_a_device_that_only_the_store_knows_is_forgotten_too(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with a token of its own, or on the list of allowed devices, was never enrolled."""
    with_store(settings, remember)
    assert forget() == 0
    assert "2 turns" in capsys.readouterr().out


def test_a_device_that_was_only_enrolled_is_forgotten_and_the_rest_is_said_to_be_nothing(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """It never talked."""
    with closing(DeviceRegistry.open(devices_path(settings.cluster.data_dir))) as registry:
        registry.visit(DEVICE, "client", Door.OPEN, 1)
    assert forget() == 0
    assert capsys.readouterr().out.splitlines() == [
        f"forgot {DEVICE}",
        "  there were no conversations, no memory and no sound of it",
    ]


def test_a_device_that_nobody_knows_is_an_error(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error is noticed."""
    assert forget("nobody") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "nothing is remembered of nobody" in shown.err


def test_memory_of_todays_server_is_forgotten_too_and_its_file_is_named(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even if no cluster has run since; the file itself is the person's to change."""
    path = settings.cluster.data_dir / ".memory.yaml"
    path.write_text(f"'{DEVICE}': likes cats\nother: likes dogs\n", "utf-8")
    assert forget() == 0
    shown = capsys.readouterr().out
    assert "removed 1 text of memory" in shown
    assert str(path) in shown
    assert "cats" not in shown

    async def check(store: Store) -> None:
        assert await store.memory.get(DEVICE) is None
        assert await store.memory.get("other") is not None

    with_store(settings, check)


def test_a_store_of_a_newer_program_is_left_alone(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Both versions are named, and the device stays enrolled."""

    async def renew(store: Store) -> None:
        await remember(store)
        await set_version(store.database, "9000")

    with closing(DeviceRegistry.open(devices_path(settings.cluster.data_dir))) as registry:
        registry.visit(DEVICE, "client", Door.OPEN, 1)
        with_store(settings, renew)
        assert forget() == 1
        assert "9000" in capsys.readouterr().err
        assert [record.device for record in registry.devices()] == [DEVICE]
    with pytest.raises(SchemaNewerError, match="9000"):
        bring_up_to_date(settings)


def test_bringing_up_to_date_tells_what_was_imported_and_what_could_not_be(settings: Settings) -> None:
    """Once; a damaged file at every start, until it is mended."""
    path = settings.cluster.data_dir / ".memory.yaml"
    path.write_text("a: 'one", "utf-8")
    for _ in range(2):
        (line,) = bring_up_to_date(settings)
        assert line.startswith("warning:") and str(path) in line and "line 1" in line
    path.write_text("a: one\nb: two\nc:\n", "utf-8")
    lines = bring_up_to_date(settings)
    assert [str(path) in line for line in lines] == [True, True]
    assert "2 devices" in lines[0] and "1 entry" in lines[1]
    assert bring_up_to_date(settings) == []
