"""`xiaozhi keys` on a data directory."""

from __future__ import annotations

import argparse
import stat
from pathlib import Path

import pytest

from ops.__main__ import main
from ops.keys import KeyRing, machine_name
from shared.errors import ConfigError
from shared.link.keys import (
    is_key,
    keys_dir,
    load_router_keys,
    load_worker_keys,
    make_pair,
    read_allowed,
    signature_of,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XZ_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def files_below(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_init_add_revoke_and_nothing_secret_is_said(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed may be copied into a ticket; what is written is for this user only."""
    assert [main(["keys", *words]) for words in (["init"], ["add", "box-2"], ["list"])] == [0, 0, 0]
    directory = keys_dir(data_dir)
    said = capsys.readouterr()
    assert "box-2" in said.out.splitlines()
    for path in files_below(directory):
        assert path.read_text().strip() not in said.out + said.err
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in directory.rglob("*") if path.is_dir())
    assert main(["keys", "revoke", "box-2"]) == 0
    assert read_allowed(load_router_keys(data_dir).allowed) == ({}, [])
    assert not (directory / "machines" / "box-2").exists(), "a revoked secret is of no more use"


def test_what_add_prepares_lets_exactly_that_machine_in(data_dir: Path, tmp_path: Path) -> None:
    """The parcel is a whole keys directory for the other machine."""
    ring = KeyRing(data_dir)
    ring.init()
    ring.add("box-2")
    (tmp_path / "other").mkdir()
    (ring.directory / "machines" / "box-2").rename(tmp_path / "other" / "keys")
    keys = load_worker_keys(tmp_path / "other")
    allowed, _ = read_allowed(load_router_keys(data_dir).allowed)
    assert allowed == {keys.public.decode(): "box-2"}
    assert keys.router.decode() == (ring.directory / "router.pub").read_text().strip()
    assert keys.secret.decode() not in repr(keys) + repr(load_router_keys(data_dir))


def test_keys_are_not_replaced_by_accident(data_dir: Path) -> None:
    """A second init would lock all machines out, a second add the one."""
    ring = KeyRing(data_dir)
    ring.init()
    ring.add("box-2")
    before = {path: path.read_bytes() for path in files_below(ring.directory)}
    ring.init()
    with pytest.raises(ConfigError, match="box-2"):
        ring.add("box-2")
    assert {path: path.read_bytes() for path in files_below(ring.directory)} == before


@pytest.mark.parametrize("action", ["add", "list"])
def test_without_the_routers_key_the_next_step_is_named(
    data_dir: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    """Nobody has to read a manual for the order of the steps."""
    assert main(["keys", action, *(["box"] if action == "add" else [])]) == 1
    assert "xiaozhi keys init" in capsys.readouterr().err


def test_an_unknown_machine_cannot_be_revoked(data_dir: Path) -> None:
    """A misspelt name must not look like a success."""
    ring = KeyRing(data_dir)
    ring.init()
    with pytest.raises(ConfigError, match="box-9"):
        ring.revoke("box-9")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 65])
def test_a_name_is_a_file_name(name: str) -> None:
    """It becomes one."""
    with pytest.raises(argparse.ArgumentTypeError):
        machine_name(name)


@pytest.mark.parametrize(("text", "why"), [("", "something else"), ("x" * 40, None), ("\x00" * 40, "something else")])
def test_a_file_that_holds_no_key_is_named_without_its_content(data_dir: Path, text: str, why: str | None) -> None:
    """It may hold half of one."""
    ring = KeyRing(data_dir)
    ring.init()
    (ring.directory / "router.key").write_text(text)
    if why is None:
        assert is_key(text)
        return
    with pytest.raises(ConfigError, match=r"router\.key") as refused:
        load_router_keys(data_dir)
    assert refused.value.value == why


def test_a_secret_that_others_can_read_is_refused(data_dir: Path) -> None:
    """Somebody has copied it without its mode."""
    ring = KeyRing(data_dir)
    ring.init()
    (ring.directory / "router.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_router_keys(data_dir)


def test_the_list_changes_its_signature_and_tells_files_without_a_key(data_dir: Path) -> None:
    """Added, replaced in place, taken away: a router sees each."""
    ring = KeyRing(data_dir)
    ring.init()
    allowed = load_router_keys(data_dir).allowed
    seen = [signature_of(allowed)]
    ring.add("box-2")
    seen.append(signature_of(allowed))
    (allowed / "box-3.pub").write_text("half a k")
    seen.append(signature_of(allowed))
    assert read_allowed(allowed)[1] == ["box-3.pub"]
    (allowed / "box-3.pub").write_text(make_pair()[0])
    seen.append(signature_of(allowed))
    ring.revoke("box-2")
    seen.append(signature_of(allowed))
    assert len(set(seen)) == 5
    assert read_allowed(allowed)[0].keys() == {(allowed / "box-3.pub").read_text()}
