"""`xiaozhi models`: what is there, in what size."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.models import ENGINES, Engine, directory_of, row_of, section_rows, size_of, types_in_use
from shared.config.engine_choice import KINDS
from shared.settings import AsrSettings, EngineChoice, Settings, TtsSettings

pytestmark = pytest.mark.unit


def test_the_embedded_engines_are_here_with_their_models() -> None:
    """A fresh installation speaks and listens without any download."""
    rows = [row_of(engine, types_in_use(Settings())) for engine in ENGINES]
    assert {row.type for row in rows if row.in_use} == {"silero", "pocketsphinx", "hibari", "espeak"}
    assert all(row.directory and row.size_bytes > 1_000_000 for row in rows)


def test_a_missing_engine_says_how_to_get_it() -> None:
    """The remedy is a command."""
    row = row_of(Engine("asr", "x", "", "no_such_module", "some-package"), frozenset())
    assert (row.directory, row.size_bytes, row.get) == (None, 0, "pip install some-package")


def test_an_engine_that_is_not_chosen_is_not_in_use() -> None:
    """Its absence is then no fault."""
    settings = Settings(asr=AsrSettings(engine=EngineChoice(name="X", type="scripted")))
    assert "pocketsphinx" not in types_in_use(settings)


def test_all_engines_are_types_that_can_be_configured() -> None:
    """A name shown here is a name that works in the file."""
    types = {kind.lower(): module.types for kind, module in KINDS.items()}
    assert all(engine.type in types[engine.stage] for engine in ENGINES)


def test_sizes_count_files_of_all_levels(tmp_path: Path) -> None:
    """Models are directories."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    assert size_of(tmp_path) == 5
    assert directory_of(Engine("asr", "x", "", "json", "json", "nowhere")) is None


def test_sections_show_where_their_model_or_service_is(tmp_path: Path) -> None:
    """A directory with its size, an address without its secrets, and what is missing with how to get it."""
    (tmp_path / "voice.onnx").write_bytes(b"1234")
    (tmp_path / "voice.onnx.json").write_text("{}")
    piper = EngineChoice(name="Mine", type="piper", options={"model": str(tmp_path)})
    cloud = EngineChoice(name="Cloud", type="edge", options={"url": "wss://example.com/x?key=secret"})
    lost = EngineChoice(name="Lost", type="piper", options={"model": str(tmp_path / "nowhere.onnx")})
    tts = TtsSettings(engine=piper, fallbacks=("Cloud",), engines={"Cloud": cloud, "Lost": lost})
    rows = {row.what: row for row in section_rows(Settings(tts=tts))}
    assert rows["section Mine"].size_bytes == 4 and rows["section Mine"].in_use
    assert rows["section Cloud"].directory == "wss://example.com/x" and rows["section Cloud"].in_use
    assert rows["section Lost"].directory is None and "nowhere.onnx" in rows["section Lost"].get
    assert not rows["section Lost"].in_use
