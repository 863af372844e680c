"""The `xiaozhi` command itself, started as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.__main__ import COMMANDS, make_parser
from ops.cluster.logs import Logs
from ops.process import ProcessName
from ops.supervisor import info_of
from ops.up import own_command, talk_command
from shared.settings import ClusterSettings

pytestmark = pytest.mark.unit


def test_help_names_every_command() -> None:
    """Nobody has to know them by heart."""
    text = make_parser(["--help"]).format_help()
    assert all(name in text for name in COMMANDS)


def test_one_command_does_not_load_the_others() -> None:
    """`xiaozhi status` must not wait for what `talk` imports."""
    code = "import sys; from ops.__main__ import make_parser; make_parser(['down']); print('ops.talk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_works_with_all_standard_files_closed(tmp_path: Path) -> None:
    """Otherwise the lock or a socket would become file 0, 1 or 2."""
    command = f'exec "{sys.executable}" -m ops down <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", command], env=os.environ | {"XZ_DATA_DIR": str(tmp_path)}, check=False)
    assert done.returncode == 0


def test_a_command_for_another_terminal_carries_the_url_of_unusual_ports() -> None:
    """That terminal does not have this one's variables."""
    usual, unusual = ClusterSettings(), ClusterSettings(http_port=9003)
    assert talk_command(usual, "http://x:8003/") == f'{own_command()} talk --say "what time is it"'
    assert talk_command(unusual, "http://x:9003/").endswith("--ota http://x:9003/")


def test_only_lines_of_this_start_are_shown(tmp_path: Path) -> None:
    """An old failure in the log must not look like the new one."""
    name = ProcessName("asr", 0)
    log = tmp_path / "asr_00.log"
    log.write_text("old failure\n")
    logs = Logs(tmp_path, [name])
    assert logs.tail(logs.of(name)) == []
    log.write_text("old failure\nnew failure\n")
    assert logs.tail(log) == ["new failure"]
    log.write_text("rotated\n")
    assert logs.tail(log) == ["rotated"]


def test_a_row_of_supervisord_becomes_a_process() -> None:
    """Uptime is by supervisord's own clock, and 0 for what does not run."""
    row = {
        "name": "asr_07", "statename": "RUNNING", "pid": 42, "now": 100, "start": 40, "spawnerr": "",
        "stdout_logfile": "/l/asr_07.log",
    }  # fmt: skip
    assert info_of(row).uptime_s == 60
    assert info_of(row).name == ProcessName("asr", 7)
    assert info_of(row | {"pid": 0}).uptime_s == 0
