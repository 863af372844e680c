"""When a process counts as there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.change.sight import hosts_with, sight_of
from ops.process import ProcessInfo, ProcessName, State

pytestmark = pytest.mark.unit

ASR, ROUTER, WEB = ProcessName("asr", 0), ProcessName("router", 0), ProcessName("web", 0)


def info(name: ProcessName, pid: int, state: State = "RUNNING") -> ProcessInfo:
    return ProcessInfo(name, state, pid, 5, "", Path())


def worker(**other: Any) -> dict[str, Any]:
    told = {"role": "asr", "slot": 0, "pid": 7, "host": "here", "draining": False, "active": 3, "epoch": 2}
    return told | {"routers": [0, 1]} | other


def router(slot: int = 0, **other: Any) -> dict[str, Any]:
    told = {"slot": slot, "pid": 40 + slot, "draining": False, "connections": 5, "epoch": 2, "ready": True}
    return told | other


def joined(cluster: Any, name: ProcessName = ASR, pid: int = 7, epoch: int = 0) -> bool:
    return sight_of([info(name, pid)], cluster, [], "here")[name].has_joined(epoch)


def test_a_worker_has_joined_when_every_router_knows_this_very_life() -> None:
    """Slot and role are the same before and after a restart; the process id is not."""
    routers = [router(0), router(1)]
    assert joined({"routers": routers, "workers": [worker()]})
    assert not joined({"routers": routers, "workers": [worker(pid=6)]})
    assert not joined({"routers": routers, "workers": [worker(routers=[1])]})
    assert not joined({"routers": routers, "workers": [worker(draining=True)]})
    assert not joined({"routers": routers, "workers": [worker(host="there")]})


def test_a_router_that_drains_need_not_know_a_new_worker() -> None:
    """It is about to leave, and takes nothing new."""
    assert joined({"routers": [router(0), router(1, draining=True)], "workers": [worker(routers=[0])]})


def test_without_routers_no_worker_has_joined() -> None:
    """Nobody could have heard it."""
    assert not joined({"routers": [], "workers": [worker()]})


def test_the_epoch_must_be_as_new_as_asked_for() -> None:
    """A life that still read the old file does not count."""
    cluster = {"routers": [router(0), router(1)], "workers": [worker()]}
    assert joined(cluster, epoch=2)
    assert not joined(cluster, epoch=3)


def test_a_router_has_joined_when_it_knows_every_worker_its_siblings_know() -> None:
    """Else the first devices it accepts would find nobody."""
    pair = [router(0), router(1)]
    assert joined({"routers": pair, "workers": [worker()]}, ROUTER, 40)
    assert not joined({"routers": pair, "workers": [worker(routers=[1])]}, ROUTER, 40)
    assert joined({"routers": pair, "workers": [worker(routers=[1], draining=True)]}, ROUTER, 40)
    assert not joined({"routers": [router(0, ready=False)], "workers": []}, ROUTER, 40)
    assert not joined({"routers": pair, "workers": []}, ROUTER, 39)


def test_a_web_process_has_joined_when_it_answers() -> None:
    """On its own admin socket, under its own process id."""
    lives = [{"slot": 0, "pid": 9, "epoch": 1}]
    assert sight_of([info(WEB, 9)], None, lives, "here")[WEB].has_joined()
    assert not sight_of([info(WEB, 8)], None, lives, "here")[WEB].has_joined()


def test_without_the_web_process_nobody_is_heard_of() -> None:
    """Everything is waited for then, nothing is given up."""
    assert not joined(None)
    assert not joined("nonsense")


def test_machines_that_work_for_a_role_are_known_by_their_workers() -> None:
    """`scale asr 0` makes sense where another machine listens."""
    cluster = {"workers": [worker(), worker(host="there"), worker(role="tts", host="elsewhere")]}
    assert hosts_with(cluster, "asr") == {"here", "there"}
    assert hosts_with(None, "asr") == set()
