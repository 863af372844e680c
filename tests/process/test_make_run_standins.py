"""Starting, watching and stopping a cluster of stand-in programs under the real supervisord."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
from contextlib import suppress

import pytest

from ops.cluster.daemon import session_members
from ops.process import ProcessName
from ops.supervisor import Supervisor
from tests.fakes.standin_up import Start

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

GOOD = {"router": "good", "asr": "good", "tts": "parent"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_cleanly_when_asked(start: Start, number: signal.Signals) -> None:
    """Ctrl-C, `kill` and a closed terminal leave no process, socket or temporary file; exit code 0."""
    up = start(GOOD)
    up.wait_until_ready()
    assert len(session_members(up.session)) == 6
    up.send(number)
    assert up.end()[0] == 0
    up.assert_nothing_is_left()


def test_a_second_ctrl_c_shortens_the_drain(start: Start) -> None:
    """A router that would drain for minutes is told again."""
    up = start({"router": "slow", "asr": "good"})
    up.wait_until_ready()
    up.send(signal.SIGINT)
    up.wait_for("stopping")
    up.send(signal.SIGINT)
    assert up.end()[0] == 0
    assert "left after 2" in (up.data_dir / "logs" / "router_00.log").read_text()
    up.assert_nothing_is_left()


def test_what_does_not_listen_is_killed_at_the_deadline(start: Start) -> None:
    """The exit code is still 0: the cluster is gone, which is what was asked for."""
    up = start({"router": "good", "asr": "deaf"}, drain_s=0.5)
    up.wait_until_ready()
    up.send(signal.SIGINT)
    assert up.end()[0] == 0
    up.assert_nothing_is_left()


def test_ctrl_c_during_the_start_ends_it(start: Start) -> None:
    """Nobody has to wait for models to load in order to leave."""
    up = start(GOOD)
    up.wait_for("starting")
    up.send(signal.SIGINT)
    assert up.end()[0] == 0
    assert not up.run_dir.exists()


@pytest.mark.parametrize(("kind", "words"), [("broken", "no model in this directory"), ("late", "found out late")])
def test_a_program_that_cannot_start_is_named_with_the_end_of_its_log(start: Start, kind: str, words: str) -> None:
    """Whether it dies before or after supervisord takes it for started."""
    up = start({"router": "good", "asr": kind})
    code, output = up.end()
    assert code == 1
    assert "asr_00" in output or "asr_01" in output, "whichever is given up first"
    assert words in output
    assert not up.run_dir.exists()


def test_a_later_failure_is_told_and_noted_and_the_rest_lives(start: Start) -> None:
    """The file is what /readyz names; Ctrl-C still ends everything cleanly."""
    up = start({"router": "good", "asr": "fragile"})
    up.wait_until_ready()
    (up.data_dir / "break").touch()
    up.wait_for("is down")
    up.wait_for("is down")
    assert set(json.loads((up.run_dir / "fatal.json").read_text())) == {"asr_00", "asr_01"}
    (router,) = Supervisor(up.run_dir).infos([ProcessName("router", 0)])
    assert router.state == "RUNNING"
    up.send(signal.SIGINT)
    assert up.end()[0] == 0
    up.assert_nothing_is_left()


def test_the_death_of_supervisord_ends_everything(start: Start) -> None:
    """Nothing runs on unsupervised, not even what ignores SIGTERM, and the exit code tells."""
    up = start({"router": "deaf", "tts": "parent"})
    up.wait_until_ready()
    os.kill(up.session, signal.SIGKILL)
    code, output = up.end()
    assert code == 1
    assert "supervisord has died" in output
    up.assert_nothing_is_left()


def test_the_death_of_the_command_ends_everything_and_the_next_start_works(start: Start) -> None:
    """kill -9 of `xiaozhi up`: the kernel tells supervisord, and stale files are no hindrance."""
    up = start({"router": "good", "asr": "good"})
    up.wait_until_ready()
    up.send(signal.SIGKILL)
    wait_for_the_end_of(up.session)
    again = start(GOOD)
    again.wait_until_ready()
    again.send(signal.SIGINT)
    assert again.end()[0] == 0
    assert session_members(again.session) == []
    assert list(again.run_dir.iterdir()) == []


def test_a_data_directory_has_one_cluster(start: Start) -> None:
    """The second is refused by name and does the first no harm."""
    first = start(GOOD)
    first.wait_until_ready()
    second = start(GOOD)
    code, output = second.end()
    assert code == 2
    assert f"process {first.process.pid}" in output
    assert len(session_members(first.session)) == 6
    first.send(signal.SIGINT)
    assert first.end()[0] == 0


def test_two_clusters_run_side_by_side(start: Start) -> None:
    """Stopping one does not touch the other."""
    first, second = start(GOOD), start(GOOD, at="b")
    first.wait_until_ready()
    second.wait_until_ready()
    first.send(signal.SIGINT)
    assert first.end()[0] == 0
    assert len(session_members(second.session)) == 6
    second.send(signal.SIGINT)
    assert second.end()[0] == 0
    second.assert_nothing_is_left()


def test_keys_typed_at_it_change_nothing(start: Start) -> None:
    """Standard input is never read, also when it is a terminal or ends."""
    keyboard, terminal = pty.openpty()
    up = start(GOOD, stdin=terminal)
    up.wait_until_ready()
    os.write(keyboard, b"q\nquit\nexit\n\x04")
    os.close(terminal)
    os.close(keyboard)
    assert len(session_members(up.session)) == 6
    up.send(signal.SIGINT)
    assert up.end()[0] == 0
    up.assert_nothing_is_left()


def wait_for_the_end_of(session: int) -> None:
    """A pidfd becomes readable when its process ends (pidfd_open(2))."""
    for pid in session_members(session):
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            select.select([descriptor], [], [])
            os.close(descriptor)
