"""What will be started, and that deploy/supervisord.conf agrees with it."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import deploy
from ops.cluster.logs import Logs
from ops.cluster.plan import FIRST_TO_STOP, LONGEST_DRAIN_S, plan_of, process_names
from ops.process import ProcessName
from shared.settings import METRICS_OFFSETS, ClusterSettings, Counts
from shared.worker.process import DRAIN_S as WORKER_DRAIN_S

pytestmark = pytest.mark.unit

CONF = configparser.RawConfigParser()
CONF.read(Path(deploy.__file__).with_name("supervisord.conf"))
PROGRAMS = {section.partition(":")[2]: section for section in CONF.sections() if "program:" in section}
COMMANDS = {
    "router": "python -m router --slot %(process_num)d --listen-fd 0",
    "web": "python -m router.web --slot %(process_num)d --listen-fd 0",
    "asr": "python -m workers.asr --slot %(process_num)d",
    "tts": "python -m workers.tts --slot %(process_num)d",
    "session": "python -m workers.session --slot %(process_num)d",
}


def test_the_first_n_slots_of_each_role_are_started() -> None:
    """Scaling is starting and stopping slots."""
    names = process_names(ClusterSettings(counts=Counts(routers=2, asr=1, tts=0, session=3)))
    assert [str(name) for name in names] == [
        "web_00", "router_00", "router_01", "session_00", "session_01", "session_02", "asr_00",
    ]  # fmt: skip


def test_every_role_is_one_program_with_all_its_slots() -> None:
    """numprocs is not live in supervisord, so it is the maximum from the start."""
    assert {name: CONF[section]["command"] for name, section in PROGRAMS.items()} == COMMANDS
    assert all(CONF[section]["autostart"] == "false" for section in PROGRAMS.values())


def test_a_machine_with_workers_only_shows_devices_no_port() -> None:
    """No web, no router; what supervisord binds for them all the same is for this machine alone."""
    settings = ClusterSettings(counts=Counts(routers=0, asr=1, tts=1, session=1))
    assert {name.program for name in process_names(settings)} == {"asr", "tts", "session"}
    assert plan_of(settings, {}).environment["XZ_HOST"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("program", "field"), [("router", "routers"), ("asr", "asr"), ("tts", "tts"), ("session", "session")]
)
def test_as_many_slots_exist_as_may_be_configured(program: str, field: str) -> None:
    """A count that the settings allow is one that supervisord has slots for."""
    slots = int(CONF[PROGRAMS[program]]["numprocs"])
    assert getattr(Counts(**{field: slots}), field) == slots
    with pytest.raises(ValidationError):
        Counts(**{field: slots + 1})


def test_no_two_slots_share_a_metrics_port() -> None:
    """Every program's slots fit between its offset and the next program's."""
    ports = [
        METRICS_OFFSETS[name] + slot for name, sec in PROGRAMS.items() for slot in range(int(CONF[sec]["numprocs"]))
    ]
    assert len(ports) == len(set(ports))


def test_routers_stop_before_everything_else_when_supervisord_itself_is_told_to_stop() -> None:
    """The highest priority number stops first."""
    priority = {name: int(CONF[section]["priority"]) for name, section in PROGRAMS.items()}
    assert max(priority, key=priority.__getitem__) == FIRST_TO_STOP


def test_supervisord_waits_longer_than_any_drain() -> None:
    """A stopwaitsecs below the drain's deadline would kill conversations."""
    assert max(WORKER_DRAIN_S.values()) <= LONGEST_DRAIN_S
    for drain_s in (8.0, 300.0):
        wait_s = int(plan_of(ClusterSettings(), {}, drain_s).environment["XZ_STOP_WAIT_S"])
        assert wait_s > max(drain_s, LONGEST_DRAIN_S)


def test_a_program_that_cannot_start_is_given_up_within_30_seconds() -> None:
    """Attempts wait 1, 2, 3 ... s after each other, and each may last startsecs and a poll of a second."""
    for section in PROGRAMS.values():
        retries, start_s = CONF[section].getint("startretries"), CONF[section].getint("startsecs")
        assert start_s == 1
        assert sum(range(1, retries + 1)) + (retries + 1) * (start_s + 1) < 30


def test_the_configuration_names_no_variable_that_is_not_set() -> None:
    """supervisord refuses to start over one unknown name."""
    text = Path(deploy.__file__).with_name("supervisord.conf").read_text()
    used = set(re.findall(r"%\(ENV_(\w+)\)s", text))
    assert used <= set(plan_of(ClusterSettings(), {}).environment)


def test_logs_are_found_where_the_configuration_puts_them() -> None:
    """The tail of a failed program's log is shown from there."""
    section = CONF[PROGRAMS["asr"]]
    path = section["stdout_logfile"].replace("%(ENV_XZ_LOG_DIR)s", "/logs")
    path = path.replace("%(program_name)s", "asr").replace("%(process_num)02d", "07")
    assert Logs(Path("/logs"), []).of(ProcessName("asr", 7)) == Path(path)


def test_paths_do_not_depend_on_the_directory_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in another directory must find the same sockets."""
    monkeypatch.chdir(tmp_path)
    plan = plan_of(ClusterSettings(data_dir=Path("data"), run_dir=Path("run")), {"HOME": "/h"})
    assert plan.environment["XZ_DATA_DIR"] == str(tmp_path / "data")
    assert plan.environment["XZ_RUN_DIR"] == str(tmp_path / "run")
    assert plan.environment["HOME"] == "/h"


def test_a_process_that_is_stopped_alone_may_drain_for_longer_than_the_whole_cluster() -> None:
    """A stop of the cluster has its own deadline and hurries what is left."""
    plan = plan_of(ClusterSettings(), {}, 8.0)
    assert plan.drain_s == 8.0
    assert float(plan.environment["XZ_DRAIN_S"]) == LONGEST_DRAIN_S
    assert float(plan_of(ClusterSettings(), {}, 300.0).environment["XZ_DRAIN_S"]) == 300.0


def test_the_variables_of_the_person_who_starts_it_are_kept(tmp_path: Path) -> None:
    """`xiaozhi reload` in another terminal reads the file with them; what `up` works out itself is not among them."""
    settings = ClusterSettings(data_dir=tmp_path / "d", run_dir=tmp_path / "r")
    plan = plan_of(settings, {"XZ_ASR": "3", "XZ_TTS": "", "HOME": "/h"})
    assert plan.variables == {
        "XZ_ASR": "3", "XZ_DATA_DIR": str(tmp_path / "d"), "XZ_RUN_DIR": str(tmp_path / "r"),
    }  # fmt: skip
