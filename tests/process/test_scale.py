"""`xiaozhi scale` and `drain` on a cluster of stand-in programs under the real supervisord."""

from __future__ import annotations

import json
import signal

import pytest

from ops.process import ProcessName
from ops.supervisor import Supervisor
from tests.fakes.standin_up import Start

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

GOOD = {"web": "web", "router": "good", "asr": "good"}


def test_slots_are_started_and_stopped_and_the_watch_agrees(start: Start) -> None:
    """Up to four and back to one: `xiaozhi up` neither revives what left nor forgets what came, and ends all of it."""
    up = start(GOOD)
    up.wait_until_ready()
    done = up.command("scale", "asr", "4")
    assert done.returncode == 0, done.stdout
    assert "asr: 2 → 4" in done.stdout
    assert up.running("asr") == up.desired("asr") == [0, 1, 2, 3]
    done = up.command("scale", "asr", "1")
    assert done.returncode == 0, done.stdout
    assert up.running("asr") == up.desired("asr") == [0]
    assert "left after 1" in (up.data_dir / "logs" / "asr_03.log").read_text()
    rows = json.loads(up.command("status", "--json").stdout)["processes"]
    assert {row["process"] for row in rows} == {"web_00", "router_00", "asr_00"}
    up.send(signal.SIGINT)
    assert up.end()[0] == 0
    up.assert_nothing_is_left()


def test_a_slot_that_does_not_come_up_is_named_and_given_up(start: Start) -> None:
    """The cluster is what it was before, and the end of its log says why."""
    up = start(GOOD | {"asr": "brittle"})
    up.wait_until_ready()
    (up.data_dir / "break").touch()
    done = up.command("scale", "asr", "4")
    assert done.returncode == 1
    assert "asr_02 cannot be started" in done.stdout
    assert "no model in this directory" in done.stdout
    assert up.running("asr") == up.desired("asr") == [0, 1]
    assert up.infos()["asr_03"].pid == 0


def test_a_slot_that_runs_but_is_never_heard_is_given_up(start: Start) -> None:
    """Running is not joining: what no router hears of is no worker."""
    up = start(GOOD | {"tts": "mute"}, is_ready=("tts_00",))
    up.wait_until_ready()
    done = up.command("scale", "tts", "2", "--start", "3")
    assert done.returncode == 1
    assert "tts_01 has not joined within 3 s" in done.stdout
    assert up.desired("tts") == [0]
    assert up.infos()["tts_01"].state in ("STOPPING", "STOPPED")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("scale", "asr", "5"), "asr can have 0 to 4 processes, not 5"),
        (("scale", "router", "0"), "router can have 1 to 4 processes, not 0"),
        (("scale", "asr", "0"), "would leave nobody"),
        (("scale", "asrr", "2"), "there is no role asrr"),
        (("drain", "asr_09"), "there is no asr_09"),
        (("drain", "asr_02"), "asr_02 is out already"),
        (("drain", "router_00"), "would leave nobody"),
        (("restart",), "--rolling"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(start: Start, words: tuple[str, ...], says: str) -> None:
    """With what would make sense."""
    up = start(GOOD)
    up.wait_until_ready()
    done = up.command(*words)
    assert done.returncode == 2
    assert says in done.stdout
    assert up.desired("asr") == [0, 1]


def test_a_drained_process_stays_out_until_it_is_wanted_again(start: Start) -> None:
    """Not even the watch that revives what dies brings it back; `restart` does."""
    up = start(GOOD)
    up.wait_until_ready()
    done = up.command("drain", "asr_01")
    assert done.returncode == 0, done.stdout
    assert up.running("asr") == [0]
    before = up.pid("asr_00")
    Supervisor(up.run_dir).stop(ProcessName("asr", 0))
    up.wait_for_life("asr_00", before)
    assert up.running("asr") == [0]
    assert up.command("restart", "asr_01").returncode == 0
    assert up.running("asr") == [0, 1]


def test_a_drain_tells_what_it_waits_for_and_ends_at_its_deadline(start: Start) -> None:
    """A process that has not left by then gets a second SIGTERM."""
    up = start(GOOD | {"asr": "slow"})
    up.wait_until_ready()
    drain = up.begin("drain", "asr_01", "--drain", "1")
    drain.wait_for("draining asr_01 (0 streams)")
    code, output = drain.end()
    assert code == 0, output
    assert "left after 2" in (up.data_dir / "logs" / "asr_01.log").read_text()


def test_two_commands_at_once_wait_for_each_other(start: Start) -> None:
    """The second says for whom, and finds the cluster as the first has left it."""
    up = start(GOOD | {"asr": "slow"})
    up.wait_until_ready()
    first = up.begin("scale", "asr", "1", "--drain", "5")
    first.wait_for("draining asr_01")
    second = up.begin("scale", "asr", "3")
    second.wait_for("waiting for `scale asr 1`")
    assert first.end()[0] == 0
    code, output = second.end()
    assert code == 0, output
    assert "asr: 1 → 3" in output
    assert up.running("asr") == [0, 1, 2]


def test_ctrl_c_ends_what_has_begun_and_leaves_the_rest_alone(start: Start) -> None:
    """No slot is left stopped half way."""
    up = start(GOOD | {"asr": "slow"})
    up.wait_until_ready()
    rolling = up.begin("restart", "--rolling", "asr", "--drain", "3")
    rolling.wait_for("draining asr_00")
    second = up.pid("asr_01")
    rolling.process.send_signal(signal.SIGINT)
    code, output = rolling.end()
    assert code == 130, output
    assert "restarted asr_00," in output
    assert up.running("asr") == [0, 1]
    assert up.pid("asr_01") == second


def test_a_killed_command_leaves_no_slot_behind(start: Start) -> None:
    """What is wanted and does not run is started by `xiaozhi up` as soon as nobody is at work."""
    up = start(GOOD | {"asr": "slow"})
    up.wait_until_ready()
    before = up.pid("asr_00")
    rolling = up.begin("restart", "--rolling", "asr_00")
    rolling.wait_for("draining asr_00")
    rolling.process.kill()
    rolling.end()
    Supervisor(up.run_dir).signal(ProcessName("asr", 0), "TERM")
    up.wait_for_life("asr_00", before)
    assert up.running("asr") == [0, 1]


def test_without_a_cluster_there_is_nothing_to_change(start: Start) -> None:
    """Exit code 3, as `status` has it."""
    up = start(GOOD)
    up.wait_until_ready()
    up.send(signal.SIGINT)
    up.end()
    done = up.command("scale", "asr", "3")
    assert done.returncode == 3
    assert "no cluster runs" in done.stdout


def test_status_is_watched_block_after_block_where_there_is_no_terminal(start: Start) -> None:
    """With what somebody is doing; it ends with the cluster."""
    up = start(GOOD | {"asr": "slow"})
    up.wait_until_ready()
    watch = up.begin("status", "--watch")
    watch.wait_for("asr_01")
    watch.wait_for("asr_01")
    drain = up.begin("drain", "asr_01")
    watch.wait_for("DRAINING")
    watch.wait_for("at work: `drain asr_01`")
    Supervisor(up.run_dir).signal(ProcessName("asr", 1), "TERM")
    assert drain.end()[0] == 0
    up.send(signal.SIGINT)
    up.wait_for("stopping")
    up.send(signal.SIGINT)
    assert watch.end()[0] == 3
