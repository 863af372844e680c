"""Voices that are computed here by piper-tts and sherpa-onnx: the real libraries with tiny models."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import ConfigError, InvalidConfigError
from shared.settings import EngineChoice
from workers.tts.engine import Later, Pcm, TtsEngine
from workers.tts.engines.espeak import EspeakEngine
from workers.tts.engines.registry import build

pytest.importorskip("onnx")
pytest.importorskip("piper")
pytest.importorskip("sherpa_onnx")

from tests.fakes.tiny_voices import (
    kokoro_voice,
    matcha_voice,
    piper_voice,
    vits_voice,
)

pytestmark = pytest.mark.unit

TEXT = "Hello world. What is it? 你好，世界。"
SECRET = "Zyxwvutsrq"
QUIET: dict[str, Any] = {"noise_scale": 0, "noise_w": 0}

Make = Callable[[Path], TtsEngine]


def made(type_name: str, **options: Any) -> TtsEngine:
    engine: Any = build(EngineChoice(name="Voice", type=type_name, options=options))
    return engine  # type: ignore[no-any-return]


def piper(directory: Path, **options: Any) -> TtsEngine:
    return made("piper", model=str(piper_voice(directory)), **options)


def sherpa(voice: Callable[[Path], Path], directory: Path, **options: Any) -> TtsEngine:
    return made("sherpa", model_dir=str(voice(directory)), **options)


MAKERS: dict[str, Make] = {
    "piper": partial(piper, **QUIET),
    "vits": partial(sherpa, vits_voice, **QUIET),
    "vits_lexicon": partial(sherpa, partial(vits_voice, lexicon=True), **QUIET),
    "kokoro": partial(sherpa, kokoro_voice),
    "matcha": partial(sherpa, matcha_voice),
}


def pieces(engine: TtsEngine, text: str, voice: str | None = None) -> list[Pcm]:
    return [one for one in engine.synthesise(text, voice, None, 7) if not isinstance(one, Later)]


def spoken(engine: TtsEngine, text: str, voice: str | None = None) -> Pcm:
    return np.concatenate([np.zeros(0, np.float32), *pieces(engine, text, voice)])


@pytest.fixture(params=MAKERS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> TtsEngine:
    engine = MAKERS[request.param](tmp_path)
    engine.load()
    return engine


def test_a_text_is_spoken_sentence_by_sentence(engine: TtsEngine) -> None:
    """The first one can be heard while the next is computed; each is sound of the told rate, and not too loud."""
    found = pieces(engine, "Hello world. Hello. 你好 hello。")
    assert len(found) == 3
    for piece in found:
        assert piece.dtype == np.float32 and len(piece) > engine.sample_rate // 10
        loud = piece[np.abs(piece) > 1e-4]
        assert -24 < 20 * np.log10(np.sqrt(np.mean(loud**2))) < -18 and np.abs(piece).max() <= 1.0


@pytest.mark.parametrize("text", ["a", "。", "😀", "[[ x ]]", "12345", "hello " * 200, "你好" * 300, "\u200b", "a\nb"])
def test_any_text_is_spoken_or_silent(engine: TtsEngine, text: str) -> None:
    """A voice that knows nothing of it says nothing, and long texts come in many pieces."""
    sound = spoken(engine, text)
    assert np.isfinite(sound).all()
    if len(text) > 500:
        assert len(pieces(engine, text)) > 5


def test_no_words_are_written_anywhere(engine: TtsEngine, capfd: pytest.CaptureFixture[str]) -> None:
    """Libraries write what they cannot read to standard error, which is the log."""
    spoken(engine, f"Hello {SECRET} 秘密 {SECRET.lower()}.")
    shown = "".join(capfd.readouterr())
    assert SECRET.lower() not in shown.lower() and "秘密" not in shown


def test_without_noise_a_voice_is_the_same_each_time(engine: TtsEngine) -> None:
    """What is told to be deterministic is: others may cut a segment and go on elsewhere."""
    if engine.deterministic:
        assert np.array_equal(spoken(engine, TEXT), spoken(engine, TEXT))


def test_which_voices_are_deterministic(tmp_path: Path) -> None:
    """Those that add no noise, as far as it can be told to."""
    told = {}
    for name, make in MAKERS.items():
        (tmp_path / name).mkdir()
        told[name] = make(tmp_path / name)
    assert {name for name, engine in told.items() if engine.deterministic} == {"piper", "vits", "vits_lexicon"}
    assert not made("piper", model=str(tmp_path / "piper")).deterministic
    assert not made("sherpa", model_dir=str(tmp_path / "vits")).deterministic


def test_which_languages_a_voice_speaks(tmp_path: Path) -> None:
    """As its files say, or as is configured."""
    found = {}
    for name, make in MAKERS.items():
        (tmp_path / name).mkdir()
        found[name] = set(make(tmp_path / name).languages)
    assert found == {"piper": {"en"}, "vits": {"en"}, "kokoro": {"en"}, "vits_lexicon": {"zh"}, "matcha": {"zh"}}
    assert made("sherpa", model_dir=str(tmp_path / "vits"), language="zh, en").languages == {"zh", "en"}


def test_threads_do_not_grow(engine: TtsEngine) -> None:
    """A piece is computed by the thread that asks for it: the process counts its threads."""

    def threads() -> set[str]:
        return {path.name for path in Path("/proc/self/task").iterdir()}

    spoken(engine, TEXT)
    before = threads()
    spoken(engine, TEXT)
    # Threads of this process that are not the voice's come and go; what stays is the voice's.
    deadline_s = time.monotonic() + 20
    while threads() - before and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert threads() <= before


def test_many_threads_speak_at_once(engine: TtsEngine) -> None:
    """Each gets its own sound; where noise is added, one of the same length."""
    texts = [f"Hello {'world ' * n}." for n in range(1, 5)]
    expected = [spoken(engine, text) for text in texts]
    found: dict[int, list[Pcm]] = {}

    def speak(number: int) -> None:
        found[number] = [spoken(engine, text) for text in texts]

    threads = [threading.Thread(target=speak, args=(n,), name=f"speaker-{n}") for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found.values():
        if engine.deterministic:
            assert all(np.array_equal(one, other) for one, other in zip(each, expected, strict=True))
        assert [len(one) for one in each] == pytest.approx([len(one) for one in expected], rel=0.1)


def test_espeak_is_not_disturbed(tmp_path: Path) -> None:
    """piper-tts brings an eSpeak NG of its own, and sherpa's voices use ours: both keep their voices and their data."""
    espeak = EspeakEngine("E", {})
    espeak.load()
    before = [spoken(espeak, text) for text in ("Hello world.", "你好，世界。")]
    (tmp_path / "p").mkdir()
    (tmp_path / "s").mkdir()
    others = [piper(tmp_path / "p", **QUIET), sherpa(vits_voice, tmp_path / "s", **QUIET)]
    for other in others:
        other.load()
    firsts = [spoken(other, TEXT) for other in others]
    failures: list[str] = []

    def speak_espeak() -> None:
        for _ in range(3):
            after = [spoken(espeak, text) for text in ("Hello world.", "你好，世界。")]
            if not all(np.array_equal(one, two) for one, two in zip(before, after, strict=True)):
                failures.append("espeak")

    def speak_other(number: int) -> None:
        for _ in range(3):
            if not np.array_equal(spoken(others[number], TEXT), firsts[number]):
                failures.append(type(others[number]).__name__)

    threads = [threading.Thread(target=speak_espeak, name="espeak")]
    threads += [threading.Thread(target=speak_other, args=(n,), name=f"other-{n}") for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Piper


def test_a_speaker_is_known_by_name_or_number(tmp_path: Path) -> None:
    """The configured one, unless a device asks for another that is there."""
    file = str(piper_voice(tmp_path, speakers=("ann", "bob")))
    ann, bob = (made("piper", model=file, speaker=name, **QUIET) for name in ("ann", 1))
    for engine in (ann, bob):
        engine.load()
    first, second = spoken(ann, TEXT), spoken(bob, TEXT)
    assert not np.array_equal(first, second)
    assert np.array_equal(spoken(ann, TEXT, "bob"), second) and np.array_equal(spoken(ann, TEXT, "1"), second)
    for unknown in ("carol", "2", "²", ""):
        assert np.array_equal(spoken(ann, TEXT, unknown), first)


def test_a_directory_with_one_voice_is_a_voice(tmp_path: Path) -> None:
    """So that an unpacked download can be named as it is; with two in it, it cannot be known which."""
    piper_voice(tmp_path)
    made("piper", model=str(tmp_path)).load()
    piper_voice(tmp_path, name="other")
    with pytest.raises(ConfigError, match=r"it holds 2 \.onnx files"):
        made("piper", model=str(tmp_path))


def test_a_piper_voice_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Told what was looked for, what is missing and where to get one."""
    with pytest.raises(ConfigError) as missing:
        made("piper", model=str(tmp_path / "nobody.onnx"))
    assert missing.value.key == "TTS.Voice.model"
    assert "there is no file nobody.onnx" in missing.value.expected and "piper-voices" in missing.value.expected
    file = piper_voice(tmp_path)
    description = Path(f"{file}.json")
    whole = description.read_text("utf-8")
    description.unlink()
    with pytest.raises(ConfigError, match=r"there is no file en_US-tiny-low\.onnx\.json"):
        made("piper", model=str(file))
    for broken in ("{", "[]", "{}", "\x00"):
        description.write_text(broken, "utf-8")
        with pytest.raises(ConfigError, match="the description of a Piper voice"):
            made("piper", model=str(file))
    description.write_text(json.dumps(json.loads(whole) | {"phoneme_type": "pinyin"}), "utf-8")
    with pytest.raises(ConfigError, match="phoneme_type is espeak or text"):
        made("piper", model=str(file)).load()
    description.write_text(whole, "utf-8")
    file.write_bytes(b"no model")
    with pytest.raises(ConfigError, match="an ONNX model that can be loaded"):
        made("piper", model=str(file)).load()


def test_a_piper_speaker_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Told which there are."""
    file = str(piper_voice(tmp_path, speakers=("ann", "bob")))
    with pytest.raises(ConfigError, match="a number below 2, or one of ann, bob"):
        made("piper", model=file, speaker="carol")


# sherpa-onnx


@pytest.mark.parametrize("voice", [vits_voice, kokoro_voice, matcha_voice])
def test_the_kind_of_a_sherpa_voice_is_found_out(voice: Callable[[Path], Path], tmp_path: Path) -> None:
    """And one that was asked for and is another is refused."""
    kind = voice.__name__.removesuffix("_voice")
    directory = str(voice(tmp_path))
    made("sherpa", model_dir=directory, model_type=kind).load()
    other = "vits" if kind != "vits" else "kokoro"
    with pytest.raises(ConfigError, match=r"TTS\.Voice\.model_dir"):
        made("sherpa", model_dir=directory, model_type=other)


def test_a_sherpa_voice_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Before the library sees it, which would end the process."""
    with pytest.raises(ConfigError, match=r"there is no such directory.*tts-models"):
        made("sherpa", model_dir=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="it is empty"):
        made("sherpa", model_dir=str(tmp_path))
    vits_voice(tmp_path)
    (tmp_path / "tokens.txt").unlink()
    with pytest.raises(ConfigError, match=r"TTS\.Voice\.model_dir"):
        made("sherpa", model_dir=str(tmp_path))


def test_a_sherpa_speaker_is_a_number(tmp_path: Path) -> None:
    """One that is not there is refused when it is configured, and replaced when a device asks for it."""
    directory = str(kokoro_voice(tmp_path))
    with pytest.raises(ConfigError, match="a whole number below 2"):
        made("sherpa", model_dir=directory, speaker_id=2).load()
    engine = made("sherpa", model_dir=directory, speaker_id=1)
    engine.load()
    assert len(spoken(engine, TEXT, "9")) == len(spoken(engine, TEXT, "nobody")) == len(spoken(engine, TEXT))


@pytest.mark.parametrize(
    ("type_name", "options", "key"),
    [
        ("piper", {}, "TTS.Voice.model"),
        ("piper", {"model": "x", "speed": 3}, "TTS.Voice.speed"),
        ("sherpa", {"speed": "1"}, "TTS.Voice.model_dir"),
        ("sherpa", {"model_dir": "x", "model_type": "tacotron"}, "TTS.Voice.model_type"),
        ("sherpa", {"model_dir": "x", "num_threads": 0}, "TTS.Voice.num_threads"),
    ],
)
def test_a_wrong_key_is_named(type_name: str, options: dict[str, Any], key: str) -> None:
    """Before anything is looked for."""
    with pytest.raises(InvalidConfigError) as wrong:
        made(type_name, **options)
    assert [error.key for error in wrong.value.errors] == [key]
