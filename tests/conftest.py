"""What all tests share: free ports, short directories for sockets, a plain user for root, the list of skipped tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes.canary import canary
from tests.fakes.ports import ClusterPorts, free_cluster_ports

PLAIN_USER = "nobody"

# What a process prints waits in Python's buffer where it runs for its user; some machines' shells hide that.
os.environ.pop("PYTHONUNBUFFERED", None)

# The same examples every time, so that a change is judged by what it changed. `explore` looks for new ones.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(scope="session", autouse=True)
def watched_machine() -> None:
    """From the first test on it is known when the machine itself stood still."""
    canary()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster_ports() -> ClusterPorts:
    return free_cluster_ports()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory with a path so short that sockets fit into it; pytest's tmp_path is too long."""
    directory = Path(tempfile.mkdtemp(prefix="xzt-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def effective_user(name: str) -> Iterator[None]:
    user = pwd.getpwnam(name)
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def as_plain_user() -> Iterator[Path]:
    """The test runs without root's rights, which no file permission stops; yields a directory of that user's."""
    directory = Path(tempfile.mkdtemp(prefix="xzt-", dir="/tmp"))
    if os.geteuid() != 0:
        yield directory
    else:
        user = pwd.getpwnam(PLAIN_USER)
        os.chown(directory, user.pw_uid, user.pw_gid)
        with effective_user(PLAIN_USER):
            yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that silently does not run is the same as none: count and name them."""
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_sep("-", f"{len(skipped)} skipped")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"{report.nodeid}: {reason}")
