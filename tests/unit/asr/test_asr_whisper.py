"""The whisper engine: what its section may say, which sections share a model, and the decoder with a real library."""

from __future__ import annotations

import os
import wave
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.config.options.whisper import WhisperAsrOptions
from shared.errors import ConfigError
from shared.settings import EngineChoice
from tests.fakes.speech import joined, noise, say, silence
from workers.asr.engines.models import Models
from workers.asr.engines.whisper import WhisperEngine, spec_of

pytestmark = pytest.mark.unit

WEIGHTS = "XZ_WHISPER_MODEL"
needs_library = pytest.mark.skipif(find_spec("faster_whisper") is None, reason="faster-whisper is not installed")
needs_weights = pytest.mark.skipif(
    find_spec("faster_whisper") is None or not os.environ.get(WEIGHTS),
    reason=f"{WEIGHTS} names no directory with a model of faster-whisper, base or larger",
)


def choice(**options: Any) -> EngineChoice:
    return EngineChoice(name="W", type="whisper", options=options)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"beam_size": 0}, "ASR.W.beam_size"),
        ({"compute_type": "int4"}, "ASR.W.compute_type"),
        ({"model": "huge"}, "ASR.W"),
        ({"threads": -1}, "ASR.W.threads"),
        ({"download": "maybe"}, "ASR.W.download"),
    ],
)
def test_a_wrong_key_is_named(options: dict[str, Any], key: str) -> None:
    """With what was expected in its place."""
    with pytest.raises(ConfigError) as refused:
        WhisperAsrOptions.of(choice(**options))
    assert refused.value.key == key


def test_numbers_may_be_texts_and_other_keys_are_ignored() -> None:
    """As in today's files."""
    options = WhisperAsrOptions.of(choice(beam_size="5", output_dir="tmp/", model_dir="/models/w"))
    assert (options.beam_size, options.directory) == (5, "/models/w")


@needs_library
def test_a_directory_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    """By the key that names it."""
    for key in ("model_dir", "model"):
        with pytest.raises(ConfigError, match="there is no such directory") as refused:
            WhisperEngine(choice(**{key: str(tmp_path / "gone")}), Models())
        assert refused.value.key == f"ASR.W.{key}"


def test_sections_that_differ_in_language_only_share_a_model() -> None:
    """A language belongs to an utterance; everything else makes another model."""
    base = spec_of(WhisperAsrOptions.of(choice(model_dir="/m")))
    assert spec_of(WhisperAsrOptions.of(choice(model_dir="/m", language="zh"))).key == base.key
    assert spec_of(WhisperAsrOptions.of(choice(model="/m"))).key == base.key
    for other in ({"model_dir": "/other"}, {"beam_size": 2}, {"compute_type": "float32"}, {"threads": 3}):
        assert spec_of(WhisperAsrOptions.of(choice(**({"model_dir": "/m"} | other)))).key != base.key


def test_nothing_is_fetched_unless_the_operator_says_so() -> None:
    """The child's library is told to stay offline; fetching gets more time to load."""
    offline = spec_of(WhisperAsrOptions.of(choice(model="base")))
    fetching = spec_of(WhisperAsrOptions.of(choice(model="base", download=True)))
    local = spec_of(WhisperAsrOptions.of(choice(model_dir="/m", download=True)))
    assert offline.variables == local.variables == {"HF_HUB_OFFLINE": "1"}
    assert fetching.variables == {} and fetching.load_s > offline.load_s


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real library with random weights."""
    pytest.importorskip("faster_whisper")
    from tests.fakes.tiny_whisper import write_tiny_whisper  # noqa: PLC0415 - needs the library

    return loaded(write_tiny_whisper(tmp_path_factory.mktemp("whisper") / "model"))


def loaded(directory: Path | str) -> Any:
    from workers.asr.engines.whisper_decoder import make_model  # noqa: PLC0415 - needs the library

    return make_model(spec_of(WhisperAsrOptions.of(choice(model_dir=str(directory), threads=1))).options)


def heard(model: Any, pcm: np.ndarray[Any, Any], language: str | None = None) -> tuple[str, str | None]:
    hearing = model.hear(language)
    for at in range(0, len(pcm), 960):
        assert hearing.feed(pcm[at : at + 960].tobytes()) == ""
    text, found = hearing.finish()
    return text, found


def test_the_library_loads_and_hears(tiny: Any) -> None:
    """The same sound has the same text; an English model hears English, whatever it is told."""
    sound = joined(silence(200), say("what time is it"))
    text, language = heard(tiny, sound)
    assert text and language == "en"
    assert [heard(tiny, sound, tag) for tag in ("en-US", "zh-CN", "tlh")] == [(text, "en")] * 3


@needs_library
def test_a_language_tag_is_understood() -> None:
    """Its first part, in the model's own names."""
    from workers.asr.engines.whisper_decoder import language_of  # noqa: PLC0415 - needs the library

    tags = {
        "zh-CN": "zh",
        "zh_TW": "zh",
        "cmn-Hans": "zh",
        "yue": "yue",
        "EN": "en",
        "nb-NO": "no",
        "": None,
        None: None,
    }
    assert {tag: language_of(tag) for tag in tags} == tags


@pytest.mark.parametrize("ms", [0, 10, 2000, 31_000])
def test_silence_has_no_text(tiny: Any, ms: int) -> None:
    """The model is not asked: it would make something up."""
    assert heard(tiny, silence(ms))[0] == ""


def test_a_model_that_has_lost_the_thread_is_cut_off(tiny: Any) -> None:
    """One second has no more tokens than a person can say: of this model a token is a letter."""
    assert len(heard(tiny, noise(1000, 0.1))[0]) <= 24 + 12


@needs_weights
def test_real_weights_hear_english() -> None:
    """A sentence of the project's own voice, word for word."""
    text, language = heard(loaded(os.environ[WEIGHTS]), joined(silence(300), say("tell me a joke"), silence(500)))
    assert (text.lower().strip(" .!"), language) == ("tell me a joke", "en")


@needs_weights
def test_real_weights_hear_chinese() -> None:
    """A recording that XZ_WHISPER_SOUND names, 16 kHz mono, of a Chinese speaker; at least it is Chinese."""
    recording = os.environ.get("XZ_WHISPER_SOUND")
    if not recording:
        pytest.skip("XZ_WHISPER_SOUND names no recording of a Chinese sentence")
    with wave.open(recording) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    text, language = heard(loaded(os.environ[WEIGHTS]), sound)
    assert language == "zh" and any("一" <= letter <= "鿿" for letter in text)
