"""The sherpa engine: what its section may say, and the decoder with the real library and tiny models."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.config.options.sherpa import SherpaAsrOptions
from shared.errors import ConfigError
from shared.settings import EngineChoice
from tests.fakes.speech import joined, say, silence
from workers.asr.engines.models import Models
from workers.asr.engines.registry import make_engine
from workers.asr.engines.sherpa import SherpaEngine

pytestmark = pytest.mark.unit

needs_library = pytest.mark.skipif(find_spec("sherpa_onnx") is None, reason="sherpa-onnx is not installed")


def choice(type_name: str = "sherpa", **options: Any) -> EngineChoice:
    return EngineChoice(name="S", type=type_name, options=options)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "ASR.S.model_dir"),
        ({"model_dir": "m", "model_type": "vosk"}, "ASR.S.model_type"),
        ({"model_dir": "m", "decoding_method": "best"}, "ASR.S.decoding_method"),
        ({"model_dir": "m", "num_threads": 1000}, "ASR.S.num_threads"),
    ],
)
def test_a_wrong_key_is_named(options: dict[str, Any], key: str) -> None:
    """With what was expected in its place."""
    with pytest.raises(ConfigError) as refused:
        SherpaAsrOptions.of(choice(**options))
    assert refused.value.key == key


@needs_library
@pytest.mark.parametrize("type_name", ["sherpa", "sherpa_onnx_local", "fun_local"])
def test_the_types_of_existing_files_mean_it(type_name: str, tmp_path: Path) -> None:
    """With their keys; a directory that is not there is refused, saying where to get one."""
    options = {"model_dir": str(tmp_path / "gone"), "model_type": "sense_voice", "output_dir": "tmp/"}
    with pytest.raises(ConfigError, match=r"SenseVoice .* no such directory\. Get one: https://github") as refused:
        make_engine(choice(type_name, **options))
    assert refused.value.key == "ASR.S.model_dir"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories by kind."""
    for package in ("sherpa_onnx", "onnx"):
        pytest.importorskip(package)
    from tests.fakes import tiny_sherpa  # noqa: PLC0415 - needs the library

    place = tmp_path_factory.mktemp("sherpa")
    return {
        "sense_voice": tiny_sherpa.write_tiny_sense_voice(place / "whole"),
        "streaming_transducer": tiny_sherpa.write_tiny_streaming_transducer(place / "streaming"),
    }


def loaded(directory: Path, **options: Any) -> Any:
    from workers.asr.engines.sherpa_decoder import make_model  # noqa: PLC0415 - needs the library

    return make_model(SherpaEngine(choice(model_dir=str(directory), threads=1, **options), Models()).spec.options)


def heard(model: Any, pcm: np.ndarray[Any, Any]) -> tuple[str, str | None, list[str]]:
    """Text, language, partials."""
    hearing = model.hear(None)
    partials = [hearing.feed(pcm[at : at + 960].tobytes()) for at in range(0, len(pcm), 960)]
    return (*hearing.finish(), [one for one in partials if one])


SOUND = joined(silence(200), say("what time is it"), silence(300))


def test_a_whole_model_hears_at_the_end(tiny: dict[str, Path]) -> None:
    """One text with its language and no tags; no partials."""
    model = loaded(tiny["sense_voice"])
    text, language, partials = heard(model, SOUND)
    assert text and "<|" not in text and language == "zh" and partials == []
    assert heard(model, SOUND)[0] == text


def test_a_streaming_model_tells_partials(tiny: dict[str, Path]) -> None:
    """Each goes on from the one before, and the text from the last; how the sound is cut does not matter."""
    model = loaded(tiny["streaming_transducer"])
    text, _, partials = heard(model, SOUND)
    assert len(set(partials)) > 1
    assert all(after.startswith(one) for one, after in zip(partials, [*partials[1:], text], strict=True))
    whole = model.hear(None)
    whole.feed(SOUND.tobytes())
    assert whole.finish()[0] == text


@pytest.mark.parametrize("kind", ["sense_voice", "streaming_transducer"])
@pytest.mark.parametrize("samples", [0, 1, 160, 960])
def test_the_shortest_sounds_do_it_no_harm(tiny: dict[str, Path], kind: str, samples: int) -> None:
    """Sound of less than a window, silent or not; the next utterance is heard as ever."""
    model = loaded(tiny[kind])
    before = heard(model, SOUND)
    assert heard(model, np.zeros(samples, np.int16))[0] == ""
    heard(model, np.full(samples, 5000, np.int16))
    assert heard(model, SOUND) == before


def test_the_wrong_kind_is_refused_at_the_start(tiny: dict[str, Path]) -> None:
    """What the directory holds is said."""
    with pytest.raises(ConfigError, match="it holds streaming Zipformer transducer"):
        SherpaEngine(choice(model_dir=str(tiny["streaming_transducer"]), model_type="paraformer"), Models())
    engine = SherpaEngine(choice(model_dir=str(tiny["streaming_transducer"]), model_type="zipformer"), Models())
    assert engine.spec.options["model"] == "streaming_transducer"


def test_a_language_makes_another_model_only_where_it_is_heeded(tiny: dict[str, Path]) -> None:
    """SenseVoice is told when it is loaded; a Zipformer knows what it knows."""

    def key(kind: str, language: str) -> str:
        return SherpaEngine(choice(model_dir=str(tiny[kind]), language=language), Models()).spec.key

    assert key("sense_voice", "zh") != key("sense_voice", "auto") == key("sense_voice", "")
    assert key("streaming_transducer", "zh") == key("streaming_transducer", "")
