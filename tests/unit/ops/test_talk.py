"""`xiaozhi talk` against a scripted server: what it prints, writes and returns."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ops import talk
from ops.device.news import Kind, News
from ops.device.speech import SpeechError, read_wav, write_wav
from ops.device.talk_view import JsonView, TalkView
from ops.local import ota_url
from tests.fakes.voice_server import Script, voice_server

pytestmark = pytest.mark.link


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    talk.add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(["talk", *words])


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Half a second of sound, 44.1 kHz stereo."""
    path = tmp_path / "noise.wav"
    samples = np.random.default_rng(1).normal(0, 6000, (22050, 2)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(samples.tobytes())
    return path


async def talked(script: Script, *words: str) -> int:
    async with voice_server(script) as server:
        args = parsed("--url", server.url, *words)
        return await asyncio.wait_for(talk.talk(args, JsonView()), 30)


@pytest.fixture(autouse=True)
def closed_ota_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster of this machine is asked for a token: nothing listens on port 1."""
    monkeypatch.setenv("XZ_HTTP_PORT", "1")


async def test_json_prints_one_object_a_turn(noise: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every promised key is there."""
    assert await talked(Script(), str(noise), "--json", "--turns", "2", "--mode", "manual") == 0
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [turn["turn"] for turn in turns] == [1, 2]
    for turn in turns:
        assert turn["stt"] == "what time is it"
        assert turn["reply"] == "It is noon. Time to eat."
        assert (turn["frames"], turn["tts_stops"], turn["stale_frames"]) == (12, 1, 0)
        assert turn["heard_s"] == pytest.approx(0.72)
        assert 0 < turn["stt_ms"] < turn["first_audio_ms"]
        assert "late_frames" in turn


async def test_out_is_what_was_heard(noise: Path, tmp_path: Path) -> None:
    """24 kHz, as long as the reply."""
    out = tmp_path / "reply.wav"
    assert await talked(Script(), str(noise), "--out", str(out)) == 0
    with wave.open(str(out)) as file:
        assert (file.getframerate(), file.getnframes()) == (24_000, 12 * 1440)


async def test_text_and_abort(capsys: pytest.CaptureFixture[str]) -> None:
    """Typed text needs no sound; the reply is interrupted."""
    assert await talked(Script(frames_per_sentence=40), "--text", "tell a joke", "--abort-after", "0.1") == 0
    turn = json.loads(capsys.readouterr().out)
    assert turn["stt"] == "tell a joke"
    assert turn["abort_stop_ms"] is not None
    assert turn["heard_s"] < 2.4


async def test_reply_without_sound_fails(noise: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tts start` and `tts stop` alone are no answer."""
    assert await talked(Script(sentences=()), str(noise)) == talk.EXIT_FAILED
    assert "without any sound" in capsys.readouterr().err


def test_no_server_is_said(noise: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line that names the address."""
    assert talk.run(parsed(str(noise), "--url", "ws://127.0.0.1:1/")) == talk.EXIT_FAILED
    err = capsys.readouterr().err
    assert "ws://127.0.0.1:1/" in err and "Traceback" not in err


def test_no_cluster_is_said(noise: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an address the local cluster is meant, and how to start it is said."""
    assert talk.run(parsed(str(noise))) == talk.EXIT_FAILED
    assert "xiaozhi up" in capsys.readouterr().err


def test_local_port_comes_from_the_variable_the_configuration_or_the_default(tmp_path: Path) -> None:
    """And asking for it creates nothing."""
    data = tmp_path / "data"
    assert ota_url("h", {"XZ_HTTP_PORT": "9", "XZ_DATA_DIR": str(data)}) == "http://h:9/xiaozhi/ota/"
    assert ota_url("h", {"XZ_DATA_DIR": str(data)}) == "http://h:8003/xiaozhi/ota/"
    assert not data.exists()
    data.mkdir()
    (data / ".config.yaml").write_text("server:\n  http_port: 8123\n")
    assert ota_url("h", {"XZ_DATA_DIR": str(data)}) == "http://h:8123/xiaozhi/ota/"


def test_no_wav_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before any connection."""
    path = tmp_path / "x.wav"
    path.write_text("hello")
    assert talk.run(parsed(str(path))) == talk.EXIT_BAD_INPUT
    assert "x.wav" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--turns", "0"], ["--abort-after", "-1"], ["--say", "a", "--text", "b"]])
def test_bad_argument_is_refused(words: list[str]) -> None:
    """argparse's usage error."""
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    assert caught.value.code == 2


def test_plain_lines_without_a_terminal() -> None:
    """One line a stage with its time, and nothing that moves."""
    out = io.StringIO()
    with TalkView(Console(file=out, width=200)) as view:
        view.waiting("connecting")
        view.turn("hello", 1.0)
        view.on_news(News(Kind.TRANSCRIPT, 412.3, "hello [there]"))
        view.on_news(News(Kind.DONE_SPEAKING, 0.0))
    lines = out.getvalue().splitlines()
    assert lines == ["", "you: hello (1.0 s)", "    412 ms  transcript   hello [there]"]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_sample_width_is_read(tmp_path: Path, width: int) -> None:
    """8, 16, 24 and 32 bits give the same sound."""
    sine = np.sin(np.arange(8000) / 10) * 0.5
    if width == 1:
        raw = ((sine * 127) + 128).astype(np.uint8).tobytes()
    else:
        whole = (sine * (2**31 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)
        raw = whole[:, 4 - width :].tobytes()
    path = tmp_path / "sine.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(raw)
    pcm = read_wav(path)
    assert len(pcm) == pytest.approx(16000 + 2 * 1920, abs=2)
    assert np.abs(pcm).max() == pytest.approx(16384, rel=0.1)


def test_empty_wav_is_refused(tmp_path: Path) -> None:
    """Nothing to say."""
    path = tmp_path / "empty.wav"
    write_wav(path, np.zeros(0, np.int16), 16000)
    with pytest.raises(SpeechError):
        read_wav(path)
