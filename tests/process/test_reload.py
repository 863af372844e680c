"""`xiaozhi reload` on a cluster of stand-in programs under the real supervisord."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.standin_up import Start, Up

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

ALL = {"web": "web", "router": "good", "session": "good", "asr": "good"}


def write(up: Up, text: str) -> Path:
    file = up.data_dir / ".config.yaml"
    file.write_text(text)
    return file


def test_a_file_with_mistakes_changes_nothing_and_names_them_all(start: Start) -> None:
    """Key, value and what was expected."""
    up = start(ALL)
    up.wait_until_ready()
    write(up, "tool_call_timeout: soon\ncluster:\n  tts:\n    opus_complexity: 11\n")
    done = up.command("reload")
    assert done.returncode == 2
    assert "nothing was changed" in done.stdout
    assert "tool_call_timeout: got 'soon'" in done.stdout
    assert "cluster.tts.opus_complexity: got 11" in done.stdout
    assert (up.run_dir / "config.epoch").read_text() == "1"
    assert up.epochs() == {"web_00": 1, "router_00": 1, "session_00": 1, "asr_00": 1, "asr_01": 1}


def test_every_process_is_told_of_a_new_epoch(start: Start) -> None:
    """The file of the epoch is a copy: what is typed afterwards does not reach a process that is restarted."""
    up = start(ALL)
    up.wait_until_ready()
    write(up, "prompt: You are a pirate.\n")
    done = up.command("reload")
    assert done.returncode == 0, done.stdout
    assert "epoch 2: prompt" in done.stdout
    assert "restart" not in done.stdout
    assert set(up.epochs().values()) == {2}
    write(up, "prompt: half a sen")
    assert (up.run_dir / "config-2.yaml").read_text() == "prompt: You are a pirate.\n"


def test_what_needs_a_restart_is_listed_with_the_command(start: Start) -> None:
    """Engines by a rolling restart of their pool, counts by scaling, ports by starting the cluster again."""
    up = start(ALL)
    up.wait_until_ready()
    pid = up.pid("asr_00")
    write(up, "server:\n  http_port: 8899\ncluster:\n  counts:\n    asr: 3\n  asr:\n    recognisers: 3\n")
    done = up.command("reload")
    assert done.returncode == 0, done.stdout
    assert "cluster.asr.recognisers: `xiaozhi restart --rolling asr`" in done.stdout
    assert "cluster.counts.asr: `xiaozhi scale asr 3`" in done.stdout
    assert "server.http_port: fixed while the cluster runs" in done.stdout
    assert up.pid("asr_00") == pid


def test_rolling_restarts_what_has_to_be_and_scales(start: Start) -> None:
    """Each new life runs the new epoch, or it would not have been waited for."""
    up = start(ALL)
    up.wait_until_ready()
    before = {name: up.pid(name) for name in ("asr_00", "asr_01", "session_00", "router_00")}
    write(up, "cluster:\n  counts:\n    asr: 3\n  asr:\n    recognisers: 3\n")
    done = up.command("reload", "--rolling")
    assert done.returncode == 0, done.stdout
    assert {name for name, pid in before.items() if up.pid(name) != pid} == {"asr_00", "asr_01"}
    assert up.running("asr") == [0, 1, 2]
    assert set(up.epochs().values()) == {2}


def test_old_processes_are_replaced_one_at_a_time(start: Start) -> None:
    """As soon as the file says so, each by a life of its own; never two at once, counted for the web process."""
    up = start(ALL)
    up.wait_until_ready()
    before = {name: up.pid(name) for name in up.epochs()}
    write(up, "cluster:\n  recycle_after_h: 0.0001\n")
    assert up.command("reload").returncode == 0
    replaced: list[str] = []
    while len(set(replaced)) < 3:
        name = up.wait_for("replacing ").split()[1].rstrip(",")
        assert f"{name} was replaced" in up.wait_for("replac")
        replaced.append(name)
    assert all(up.pid(name) not in (0, before[name]) for name in set(replaced))
    counted = json.loads((up.run_dir / "recycled.json").read_text())
    assert sum(counted.values()) >= len(replaced)
    assert {key.partition("/")[2] for key in counted} == {"age"}
