"""The configuration a cluster has agreed on, and how far a change of it reaches."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from shared.config import epoch
from shared.config.keys import SETTINGS
from shared.config.load import load
from shared.config.reach import (
    LIVE,
    PROGRAMS,
    USED_BY,
    changed,
    is_live,
    key_of,
    taken_over,
    users_of,
    waits_for_restart,
)
from shared.config.reload import reloaded
from shared.desired import read_desired, write_desired
from shared.settings import AsrSettings, LogSettings, SessionSettings, Settings

pytestmark = pytest.mark.unit


def environ(tmp_path: Path) -> dict[str, str]:
    return {"XZ_DATA_DIR": str(tmp_path), epoch.VARIABLE: str(tmp_path)}


def test_a_process_reads_what_was_agreed_on_and_not_what_is_being_typed(tmp_path: Path) -> None:
    """Under the number of its epoch."""
    (tmp_path / ".config.yaml").write_text("prompt: half a sen")
    assert load(environ(tmp_path)).epoch == 1
    assert epoch.store_epoch(tmp_path, b"prompt: Be brief.") == 1
    assert epoch.store_epoch(tmp_path, b"prompt: Be kind.") == 2
    settings = load(environ(tmp_path))
    assert (settings.epoch, settings.session.prompt) == (2, "Be kind.")
    del (there := environ(tmp_path))[epoch.VARIABLE]
    assert load(there).session.prompt == "half a sen"


def test_the_copy_is_for_this_user_only(tmp_path: Path) -> None:
    """It may hold upstream keys."""
    number = epoch.store_epoch(tmp_path, b"")
    assert stat.S_IMODE(epoch.file_of(tmp_path, number).stat().st_mode) == 0o600


def test_old_copies_go_after_a_while(tmp_path: Path) -> None:
    """They are bounded, and long enough there to tell what a process has missed."""
    numbers = [epoch.store_epoch(tmp_path, b"") for _ in range(epoch.KEPT_EPOCHS + 3)]
    assert numbers[-1] == epoch.current_epoch(tmp_path) == epoch.KEPT_EPOCHS + 3
    assert len(list(tmp_path.glob("config-*.yaml"))) == epoch.KEPT_EPOCHS


def test_every_setting_says_who_uses_it() -> None:
    """By its section at least; what is listed exists."""
    sections = set(Settings.model_fields)
    for path in [*USED_BY, *(path for paths in LIVE.values() for path in paths)]:
        section, _, name = path.partition(".")
        assert section in sections
        assert not name or name in type(getattr(Settings(), section)).model_fields, path
    assert all(
        path in {target for targets in SETTINGS.values() for target in targets} or path == "router.vad"
        for paths in LIVE.values()
        for path in paths
    )


def test_a_session_takes_words_over_and_waits_with_engines() -> None:
    """Between two turns; the model is built once."""
    old = Settings()
    words = Settings(epoch=2, session=SessionSettings(prompt="Be brief.", exit_commands=("bye",)))
    paths = changed(old, words)
    assert paths == ["session.prompt", "session.exit_commands"]
    assert waits_for_restart("session", paths) == []
    assert taken_over("session", old, words) == words
    assert taken_over("asr", old, words).epoch == 2
    both = Settings(epoch=3, session=SessionSettings(prompt="Be brief.", capacity=7))
    assert waits_for_restart("session", changed(old, both)) == ["session.capacity"]
    kept = taken_over("session", old, both)
    assert (kept.epoch, kept.session.prompt, kept.session.capacity) == (1, "Be brief.", old.session.capacity)


def test_a_change_concerns_the_programs_that_use_it() -> None:
    """An unknown section concerns all: better one restart too many."""
    old, new = Settings(), Settings(asr=AsrSettings(recognisers=5))
    concerned = {program for program in PROGRAMS if waits_for_restart(program, changed(old, new))}
    assert concerned == {"asr"}
    assert users_of("log.level") == users_of("store.url") == frozenset(PROGRAMS)
    assert changed(old, Settings(log=LogSettings(level="DEBUG"))) == ["log.level"]
    assert users_of("cluster.counts.asr") == frozenset()
    assert not is_live("asr", "session.prompt")
    assert key_of("session.tool_call_timeout_s") == "tool_call_timeout"


def test_a_process_that_cannot_read_the_new_epoch_goes_on_with_the_old(tmp_path: Path) -> None:
    """It was checked by another version of the program; the restart will tell."""
    old = load(environ(tmp_path))
    epoch.store_epoch(tmp_path, b"prompt: Be brief.")
    new = reloaded("session", old, environ(tmp_path))
    assert new.session.prompt == "Be brief."
    epoch.store_epoch(tmp_path, b"tool_call_timeout: soon")
    assert reloaded("session", new, environ(tmp_path)) is new


def test_wanted_slots_are_written_in_one_step(tmp_path: Path) -> None:
    """Whoever reads sees all or nothing of a change."""
    assert read_desired(tmp_path) is None
    write_desired(tmp_path, {"asr": [1, 0], "web": [0]})
    assert read_desired(tmp_path) == {"asr": (0, 1), "web": (0,)}
    assert [path.name for path in tmp_path.iterdir()] == ["desired.json"]
