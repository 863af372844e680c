"""python -m bench.engines: a table, or JSON, of the configured engines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SECTIONS = {
    "selected_module": {"ASR": "Script", "LLM": "Model"},
    "ASR": {
        "Script": {"type": "scripted", "text": "who painted the picture of the starry night", "delay_ms": 5},
        "Broken": {"type": "scripted", "fail": "raise"},
    },
    "LLM": {"Model": {"type": "scripted"}},
}


def run(tmp_path: Path, *arguments: str, sections: dict[str, Any] = SECTIONS) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(sections), "utf-8")
    command = [sys.executable, "-m", "bench.engines", *arguments, "--config", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_recognisers_and_models_are_measured(tmp_path: Path) -> None:
    """Rows by section, language and condition, with mistakes, failures and times."""
    options = ("--count", "1", "--pace", "0", "--noise-db", "10", "--texts", "--json", "--language", "en")
    done = run(tmp_path, "asr", "llm", *options, "--section", "Script", "--section", "Broken", "--section", "Model")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    script, noisy, broken, _ = rows["asr"]
    assert [row["condition"] for row in (script, noisy)] == ["clean", "10 dB"]
    assert script["engine"] == "Script" and script["utterances"] == 1 and script["failed"] == 0
    assert script["heard"] == [SECTIONS["ASR"]["Script"]["text"]] and script["errors_percent"] > 50
    assert script["tail_ms_p50"] >= 5 and script["realtime_factor"] > 0
    assert broken["failed"] == "scripted" and broken["errors_percent"] == 0
    (model,) = rows["llm"]
    assert model["requests"] == 1 and model["failed"] == 0 and model["first_ms_p50"] is not None


def test_a_section_that_cannot_be_used_is_a_row_of_its_own(tmp_path: Path) -> None:
    """With the reason; the others are measured."""
    sections = SECTIONS | {"ASR": SECTIONS["ASR"] | {"Own": {"type": "sherpa", "model_dir": "/nowhere"}}}
    done = run(tmp_path, "asr", "--count", "1", "--pace", "0", "--json", "--language", "en", sections=sections)
    assert done.returncode == 0, done.stderr
    failed = {row["engine"]: row["failed"] for row in json.loads(done.stdout)["asr"]}
    assert "ASR.Own." in failed["Own"] and failed["Script"] == 0


def test_a_table_is_shown(tmp_path: Path) -> None:
    """For people."""
    done = run(tmp_path, "llm", "--count", "1", "--section", "Model")
    assert done.returncode == 0 and "first_ms_p50" in done.stdout and "Model" in done.stdout


@pytest.mark.parametrize("arguments", [("vad",), ("asr", "--language", "tlh")])
def test_what_it_does_not_know_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Before anything is measured."""
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and "usage:" in done.stderr
