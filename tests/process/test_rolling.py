"""`xiaozhi restart` on a cluster of stand-in programs under the real supervisord."""

from __future__ import annotations

import pytest

from tests.fakes.standin_up import Start

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ALL = {"web": "web", "router": "good", "asr": "good", "tts": "good"}
NAMES = ("asr_00", "asr_01", "router_00", "tts_00", "web_00")


def test_everything_gets_a_new_life_one_after_the_other(start: Start) -> None:
    """Roles with one slot get a second one meanwhile, which is gone afterwards, of router and web process too."""
    up = start(ALL)
    up.wait_until_ready()
    before = {name: up.pid(name) for name in NAMES}
    done = up.command("restart", "--rolling")
    assert done.returncode == 0, done.stdout
    assert "restarted asr_00, asr_01, tts_00, router_00, web_00" in done.stdout
    assert all(up.pid(name) not in (0, pid) for name, pid in before.items())
    assert {program: up.running(program) for program in ALL} == {"web": [0], "router": [0], "asr": [0, 1], "tts": [0]}
    supervisord = (up.data_dir / "logs" / "supervisord.log").read_text()
    for name in ("tts_01", "router_01", "web_01"):
        lines = [line for line in supervisord.splitlines() if name in line or f"{name[:-2]}00" in line]
        spawned = [number for number, line in enumerate(lines) if f"spawned: '{name}'" in line]
        stopped = [number for number, line in enumerate(lines) if f"stopped: {name[:-2]}00" in line]
        assert spawned[0] < stopped[0], "the second slot comes before the first one leaves"


def test_a_new_life_that_does_not_come_stops_it_there(start: Start) -> None:
    """The rest goes on as it was; what failed is named, with the end of its log."""
    up = start(ALL | {"asr": "brittle"})
    up.wait_until_ready()
    second, router = up.pid("asr_01"), up.pid("router_00")
    (up.data_dir / "break").touch()
    done = up.command("restart", "--rolling", "asr", "router")
    assert done.returncode == 1
    assert "asr_00 cannot be started; the rest was left alone" in done.stdout
    assert "no model in this directory" in done.stdout
    assert (up.pid("asr_01"), up.pid("router_00")) == (second, router)
    assert up.desired("asr") == [0, 1]


def test_named_processes_are_restarted_together(start: Start) -> None:
    """Without --rolling nobody takes their place meanwhile."""
    up = start(ALL)
    up.wait_until_ready()
    before = {name: up.pid(name) for name in NAMES}
    done = up.command("restart", "asr", "tts_00")
    assert done.returncode == 0, done.stdout
    renewed = {name for name, pid in before.items() if up.pid(name) != pid}
    assert renewed == {"asr_00", "asr_01", "tts_00"}
    assert up.infos()["tts_01"].pid == 0
