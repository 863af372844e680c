"""The enrolment policy."""

from __future__ import annotations

from typing import Any

import pytest

from router.web.caller import Caller, HostPort
from router.web.policy import door_for
from shared.identity.enrol import Door
from shared.settings import AuthSettings

pytestmark = pytest.mark.unit

HOME = Caller(None, HostPort("box"), secure=False, is_lan=True)
AWAY = Caller(None, HostPort("box"), secure=False, is_lan=False)


@pytest.mark.parametrize(
    ("enroll", "home", "away"),
    [
        ("lan", Door.OPEN, Door.AWAY),
        ("allowlist", Door.SHUT, Door.SHUT),
        ("activation", Door.ASK, Door.ASK),
        ("open", Door.OPEN, Door.OPEN),
    ],
)
def test_door_of_each_mode(enroll: Any, home: Door, away: Door) -> None:
    """Only `lan` asks where the caller is; `allowlist` shuts out all others."""
    auth = AuthSettings(key="k", enroll=enroll, allowed_devices=("listed",))
    assert (door_for(auth, "aa", HOME), door_for(auth, "aa", AWAY)) == (home, away)
    assert door_for(auth, "listed", AWAY) is Door.OPEN


def test_lan_is_the_default() -> None:
    """A fresh installation serves the devices at home and nobody else."""
    assert AuthSettings(key="k").enroll == "lan"
    assert AuthSettings(key="k").enabled
