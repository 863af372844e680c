"""`xiaozhi up` with an engine whose section cannot work: nothing is started, and the operator reads what to mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ports import ClusterPorts

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SECRET = "s3cret-of-the-operator"
REFUSED = 2
DOUBAO = {"type": "doubao_stream", "appid": "1234567890", "access_token": SECRET}
ALIYUN = {"type": "aliyun_stream", "appkey": SECRET, "token": SECRET}
HUOSHAN = {"type": "huoshan_double_stream", "appid": "1234567890", "access_token": SECRET}

Up = Callable[[Mapping[str, Any]], subprocess.CompletedProcess[str]]


@pytest.fixture
def up(tmp_path: Path, run_dir: Path, cluster_ports: ClusterPorts) -> Up:
    """Runs it to its end."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    places = {"XZ_DATA_DIR": str(data_dir), "XZ_RUN_DIR": str(run_dir / "run")}

    def run(document: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        (data_dir / ".config.yaml").write_text(json.dumps(document, ensure_ascii=False), "utf-8")
        return subprocess.run(
            [sys.executable, "-m", "ops", "up"],
            env=os.environ | places | cluster_ports.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def selecting(kind: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose engine of `kind` is the section Mine."""
    return {"selected_module": {kind: "Mine"}, kind: {"Mine": dict(section)}}


def problems_of(done: subprocess.CompletedProcess[str], run_dir: Path) -> list[str]:
    """What it says is wrong, a line each; nothing was started, and no secret is shown."""
    told = done.stdout + done.stderr
    assert done.returncode == REFUSED, told
    assert SECRET not in told
    assert "Traceback" not in told
    assert not (run_dir / "run").exists()
    return [line for line in told.splitlines() if line.startswith("  ")]


@dataclass(frozen=True)
class Wrong:
    """A section with one fault, and what must be read of it."""

    kind: str
    section: Mapping[str, Any]
    key: str
    shown: str
    """The value, as it stands in the message."""
    expected: str


KEYS = {
    "appid missing": Wrong("ASR", {**DOUBAO, "appid": None}, "appid", "None", "the App ID at console.volcengine.com"),
    "example value": Wrong("ASR", {**DOUBAO, "appid": "你的appid"}, "appid", "'你的appid'", "the App ID at"),
    "example secret": Wrong(
        "ASR",
        {**DOUBAO, "access_token": "你的access_token"},
        "access_token",
        "'***'",
        "the Access Token of",
    ),
    "endpoint of doubao": Wrong("ASR", {**DOUBAO, "endpoint": "both"}, "endpoint", "'both'", "own (we find the end"),
    "endpoint of aliyun": Wrong("ASR", {**ALIYUN, "endpoint": "both"}, "endpoint", "'both'", "own (we find the end"),
    "voice missing": Wrong("TTS", HUOSHAN, "speaker", "None", "the name of a voice that resource_id has"),
    "number as a word": Wrong(
        "TTS", {**HUOSHAN, "speaker": "x", "speech_rate": "fast"}, "speech_rate", "'fast'", "a whole number from -50"
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_wrong_key_of_a_service_is_named(name: str, up: Up, run_dir: Path) -> None:
    """Key, value unless it is a secret, and what was expected, in the words of whoever has to mend it."""
    wrong = KEYS[name]
    (told,) = problems_of(up(selecting(wrong.kind, wrong.section)), run_dir)
    assert f"{wrong.kind}.Mine.{wrong.key}: got {wrong.shown}. Expected {wrong.expected}" in told


@dataclass(frozen=True)
class Local:
    """An engine that computes here, and what is said of a place where its model is not."""

    kind: str
    type: str
    key: str
    package: str
    looked_for: str
    source: str
    others: tuple[str, ...]
    """Files that make a model of another kind."""
    fault: str
    """What is said of those."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def section(self, directory: Path) -> dict[str, Any]:
        return {"type": self.type, self.key: str(directory), **self.options}


WHISPER_FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
LOCALS = {
    "sherpa": Local(
        "ASR",
        "sherpa",
        "model_dir",
        "sherpa_onnx",
        "SenseVoice",
        "https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models",
        ("model.pt", "config.yaml", "tokens.json"),
        "it holds a PyTorch model, which must be converted or replaced",
    ),
    "sherpa of one kind": Local(
        "ASR",
        "sherpa",
        "model_dir",
        "sherpa_onnx",
        "tokens.txt",
        "https://github.com/k2-fsa/sherpa-onnx/releases/",
        WHISPER_FILES,
        "it has no ",
        {"model_type": "sense_voice"},
    ),
    "whisper": Local(
        "ASR",
        "whisper",
        "model_dir",
        "faster_whisper",
        "model.bin",
        "https://huggingface.co/Systran",
        ("model.int8.onnx", "tokens.txt"),
        "it has no model.bin",
    ),
    "piper": Local(
        "TTS",
        "piper",
        "model",
        "piper",
        "a Piper voice's .onnx file with its .onnx.json beside it",
        "https://huggingface.co/rhasspy/piper-voices",
        WHISPER_FILES,
        "it holds 0 .onnx files",
    ),
    "sherpa's voices": Local(
        "TTS",
        "sherpa",
        "model_dir",
        "sherpa_onnx",
        "VITS",
        "https://github.com/k2-fsa/sherpa-onnx/releases/tag/tts-models",
        WHISPER_FILES,
        "what it holds is none of them",
    ),
}


@pytest.mark.parametrize("holds", ["no directory", "another model"])
@pytest.mark.parametrize("name", LOCALS)
def test_a_model_that_is_not_there_is_named(name: str, holds: str, up: Up, run_dir: Path, tmp_path: Path) -> None:
    """The directory, what was looked for in it, what is there instead, and where such a model comes from."""
    local = LOCALS[name]
    _need(local)
    directory = tmp_path / "model"
    if holds == "another model":
        directory.mkdir()
        for file in local.others:
            (directory / file).write_text("{}", "utf-8")
    (told,) = problems_of(up(selecting(local.kind, local.section(directory))), run_dir)
    assert f"{local.kind}.Mine.{local.key}: got '{directory}'. Expected " in told
    assert local.looked_for in told
    assert local.source in told
    assert (local.fault if directory.exists() else "there is no ") in told


def test_engines_that_would_take_over_are_looked_at_too(up: Up, run_dir: Path, tmp_path: Path) -> None:
    """A fallback that cannot speak is found before it is needed, however well the first one is."""
    document: dict[str, Any] = {"selected_module": {"ASR": ["Well"], "TTS": ["Well"]}}
    document |= {"ASR": {"Well": {"type": "scripted"}}, "TTS": {"Well": {"type": "sine"}}}
    for name, local in LOCALS.items():
        _need(local)
        document["selected_module"][local.kind].append(name)
        document[local.kind][name] = local.section(tmp_path / "nowhere")
    told = problems_of(up(document), run_dir)
    assert len(told) == len(LOCALS)
    for name, local in LOCALS.items():
        assert any(f"{local.kind}.{name}.{local.key}: got '{tmp_path / 'nowhere'}'" in line for line in told)


def test_all_wrong_keys_are_told_at_once(up: Up, run_dir: Path) -> None:
    """Nobody starts it five times to mend five keys; those of fallbacks are among them."""
    well = {"ASR": {"type": "scripted"}, "TTS": {"type": "sine"}}
    document = {
        "selected_module": {"ASR": ["Well", "Mine"], "TTS": ["Well", "Mine"]},
        "ASR": {"Well": well["ASR"], "Mine": {"type": "doubao_stream", "endpoint": "both"}},
        "TTS": {"Well": well["TTS"], "Mine": {"type": "huoshan_double_stream", "access_token": SECRET}},
    }
    told = problems_of(up(document), run_dir)
    wrong = ("ASR.Mine.appid", "ASR.Mine.access_token", "ASR.Mine.endpoint", "TTS.Mine.appid", "TTS.Mine.speaker")
    assert len(told) == len(wrong)
    assert [key for key in wrong if not any(f"{key}: got " in line for line in told)] == []


def _need(local: Local) -> None:
    if find_spec(local.package) is None:
        pytest.skip(f"{local.type}: not installed: {local.package}")
