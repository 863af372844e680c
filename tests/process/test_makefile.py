"""The Makefile, with stand-ins for the interpreter, apt-get and sudo: nothing is downloaded or installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.skipif(shutil.which("make") is None, reason="GNU make is not installed")]

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/bash
case "$*" in
  -V*) echo "Python 3.11.9" ;;
  *version_info*) exit ${OLD_PYTHON:-0} ;;
  *ensurepip*) exit ${NO_VENV:-0} ;;
  "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >> calls ;;
  *"pip "*) echo "pip ${@: -1}" >> calls; printf '#!/bin/bash\\nexec "$XIAOZHI" "$@"\\n' > .venv/bin/xiaozhi
            chmod +x .venv/bin/xiaozhi ;;
  *ctypes*) exit ${NO_LIBOPUS:-0} ;;
esac
"""
DRAINS_AT_A_SIGNAL = """import os, signal
def drain(*_):
    os.write(1, b"drained\\n")
    os._exit(0)
signal.signal(signal.SIGINT, drain)
signal.signal(signal.SIGTERM, drain)
os.write(1, b"up\\n")
while True:
    signal.pause()
"""
RECORDER = '#!/bin/bash\necho "$(basename "$0") $*" >> calls\n'

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a path with a space."""
    directory = tmp_path / "my checkout"
    directory.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, directory)
    return directory


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Commands that come before the real ones."""
    directory = tmp_path / "tools"
    directory.mkdir()
    put(directory / "python3", PYTHON)
    put(directory / "apt-get", RECORDER)
    return directory


def put(path: Path, script: str) -> None:
    path.write_text(script)
    path.chmod(0o755)


def environment(tools: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return kept | variables | {"PATH": f"{tools}:/usr/bin:/bin", "LC_ALL": "C"}


@pytest.fixture
def make(checkout: Path, tools: Path) -> Make:
    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words],
            cwd=checkout,
            env=environment(tools, **variables),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def calls(checkout: Path) -> list[str]:
    file = checkout / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_a_second_run_installs_nothing(make: Make, checkout: Path) -> None:
    """It works offline, and starts at once."""
    assert make("run", XIAOZHI="/bin/echo").stdout.endswith("up\n")
    assert make("run", XIAOZHI="/bin/echo").stdout == "up\n"
    assert calls(checkout) == ["venv", "pip ."]


def test_a_changed_project_file_installs_again_into_the_same_environment(make: Make, checkout: Path) -> None:
    """The stamp is keyed on its content, not on its time."""
    make("install")
    (checkout / "pyproject.toml").touch()
    make("install")
    assert calls(checkout) == ["venv", "pip ."]
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    make("install")
    assert calls(checkout) == ["venv", "pip .", "pip ."]


def test_a_moved_checkout_gets_a_new_environment(make: Make, checkout: Path, tools: Path) -> None:
    """An environment holds absolute paths."""
    make("install")
    moved = checkout.rename(checkout.with_name("elsewhere"))
    subprocess.run(["make", "install"], cwd=moved, env=environment(tools), check=True, capture_output=True)
    assert calls(moved) == ["venv", "pip .", "venv", "pip ."]


def test_tests_bring_their_own_needs(make: Make, checkout: Path) -> None:
    """From a clean clone, and the start needs no second installation."""
    make("dev")
    make("install")
    assert calls(checkout) == ["venv", "pip .[dev]"]


def test_without_venv_the_command_to_type_is_printed(make: Make, checkout: Path) -> None:
    """Debian splits it off into a package."""
    done = make("run", NO_VENV="1")
    assert done.returncode != 0
    assert "sudo apt install python3-venv" in done.stdout
    assert calls(checkout) == []


def test_an_old_interpreter_is_named(make: Make) -> None:
    """With its version and how to choose another."""
    done = make("run", OLD_PYTHON="1")
    assert done.returncode != 0
    assert "Python 3.11" in done.stdout
    assert "PYTHON=" in done.stdout


def test_root_gets_libopus_installed(make: Make, checkout: Path, tools: Path) -> None:
    """Nobody is asked for what can be done."""
    put(tools / "id", "#!/bin/bash\necho 0\n")
    assert make("libopus", NO_LIBOPUS="1").returncode == 0
    assert calls(checkout)[-1] == "apt-get install -y -qq libopus0"


def test_a_user_with_sudo_gets_libopus_installed(make: Make, checkout: Path, tools: Path) -> None:
    """Only where sudo asks for no password: a prompt would look like a hang."""
    put(tools / "id", "#!/bin/bash\necho 1000\n")
    put(tools / "sudo", RECORDER)
    assert make("libopus", NO_LIBOPUS="1").returncode == 0
    assert calls(checkout)[-1] == "sudo -n apt-get install -y -qq libopus0"


def test_other_users_are_told_what_to_type(make: Make, checkout: Path, tools: Path) -> None:
    """And nothing is started."""
    put(tools / "id", "#!/bin/bash\necho 1000\n")
    put(tools / "sudo", "#!/bin/bash\nexit 1\n")
    done = make("run", NO_LIBOPUS="1", XIAOZHI="/bin/echo")
    assert done.returncode != 0
    assert "sudo apt install libopus0" in done.stdout
    assert "up\n" not in done.stdout


def test_root_gets_the_programs_of_postgres_without_a_server_that_runs(make: Make, checkout: Path, tools: Path) -> None:
    """The package would make a server of the machine's own, if it were not told otherwise first."""
    put(tools / "id", "#!/bin/bash\necho 0\n")
    put(tools / "sed", RECORDER)
    assert make("postgres", "POSTGRES=").returncode == 0
    common, configure, server = calls(checkout)
    assert common == "apt-get install -y -qq --no-install-recommends postgresql-common"
    assert configure.startswith("sed") and "create_main_cluster = false" in configure
    assert server == "apt-get install -y -qq --no-install-recommends postgresql"


def test_without_postgres_the_tests_run_and_say_what_is_left_out(make: Make, checkout: Path, tools: Path) -> None:
    """It is needed by tests only, so nobody is kept from running the others."""
    put(tools / "id", "#!/bin/bash\necho 1000\n")
    put(tools / "sudo", "#!/bin/bash\nexit 1\n")
    done = make("postgres", "POSTGRES=")
    assert done.returncode == 0
    assert "sudo apt install postgresql" in done.stdout
    assert calls(checkout) == []


def test_a_machine_that_has_postgres_is_left_alone(make: Make, checkout: Path) -> None:
    """Whichever version it is."""
    assert make("postgres", "POSTGRES=/usr/bin/postgres").stdout == ""
    assert calls(checkout) == []


@pytest.mark.parametrize("whole_group", [True, False], ids=["ctrl_c", "sigterm_to_make"])
def test_a_signal_reaches_the_command_and_make_waits_for_it(
    make: Make, checkout: Path, tools: Path, whole_group: bool
) -> None:
    """Ctrl-C goes to make and command alike; SIGTERM is passed on by make. Neither leaves the command behind."""
    put(tools / "xiaozhi", f"#!{sys.executable}\n{DRAINS_AT_A_SIGNAL}")
    make("install")
    process = subprocess.Popen(
        ["make", "run"],
        cwd=checkout,
        env=environment(tools, XIAOZHI=str(tools / "xiaozhi")),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    output, _ = process.communicate()
    assert output == "drained\n"
