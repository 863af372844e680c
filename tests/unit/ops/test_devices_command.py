"""`xiaozhi devices` against a real file of devices."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops import devices
from ops.devices import act
from shared.errors import XiaozhiError
from shared.identity.devices import DeviceRegistry, devices_path
from shared.identity.enrol import Door

pytestmark = pytest.mark.unit

DEVICE, CLIENT = "aa:bb:cc:dd:ee:ff", "6d3c1f0e"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DeviceRegistry]:
    with closing(DeviceRegistry.open(devices_path(tmp_path))) as opened:
        yield opened


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    devices.add_parser(parser.add_subparsers())
    return parser.parse_args(["devices", *words])


def listed(registry: DeviceRegistry, capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, object]]]:
    capsys.readouterr()
    act(registry, arguments("list", "--json"), 2)
    return json.loads(capsys.readouterr().out)


def test_a_waiting_device_is_listed_with_its_code_and_approved_by_it(
    registry: DeviceRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """The six digits on the device's screen are all the operator types."""
    request = registry.visit(DEVICE, CLIENT, Door.ASK, 1).request
    assert request is not None
    assert listed(registry, capsys)["waiting"] == [
        {"device": DEVICE, "client": CLIENT, "code": request.code, "asked_s": 1}
    ]
    assert act(registry, arguments("approve", request.code), 2) == 0
    after = listed(registry, capsys)
    assert after["waiting"] == []
    assert [(d["device"], d["client"], d["vouched"]) for d in after["devices"]] == [(DEVICE, CLIENT, True)]


def test_the_challenge_is_never_shown(registry: DeviceRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has it can answer for the device."""
    request = registry.visit(DEVICE, CLIENT, Door.ASK, 1).request
    assert request is not None
    act(registry, arguments("list"), 2)
    act(registry, arguments("list", "--json"), 2)
    assert request.challenge not in capsys.readouterr().out


def test_a_revoked_device_is_shown_as_such_and_forgotten_on_request(
    registry: DeviceRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Revoking remembers, forgetting does not."""
    registry.visit(DEVICE, CLIENT, Door.OPEN, 1)
    act(registry, arguments("revoke", DEVICE), 5)
    assert listed(registry, capsys)["devices"][0]["state"] == "revoked"
    act(registry, arguments("forget", DEVICE), 6)
    assert listed(registry, capsys)["devices"] == []


def test_without_an_action_it_lists(registry: DeviceRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """What people type first."""
    assert act(registry, arguments(), 1) == 0
    assert "no devices yet" in capsys.readouterr().out


def test_an_unknown_code_is_an_error_with_words(registry: DeviceRegistry) -> None:
    """A typing error must not create a device of that name."""
    with pytest.raises(XiaozhiError, match="123456"):
        act(registry, arguments("approve", "123456"), 1)
