"""A local recogniser's model is checked before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from shared.config.local_asr import check_local_asr
from shared.config.preflight import check_models
from shared.errors import ConfigError
from shared.settings import AsrSettings, EngineChoice, Settings

pytestmark = pytest.mark.unit

LIBRARIES = {"whisper": "faster_whisper", "sherpa": "sherpa_onnx", "sherpa_onnx_local": "sherpa_onnx"}


@pytest.mark.parametrize("type_name", sorted(LIBRARIES))
def test_a_missing_directory_keeps_the_cluster_from_starting(type_name: str, tmp_path: Path) -> None:
    """The problem names the key, and says what was looked for; without the library, how to install it."""
    choice = EngineChoice(name="Own", type=type_name, options={"model_dir": str(tmp_path / "gone")})
    problems = [str(one) for one in check_models(Settings(asr=AsrSettings(engine=choice)))]
    if find_spec(LIBRARIES[type_name]) is None:
        assert "ASR.Own.type" in problems[0] and "pip install" in problems[0]
    else:
        assert "ASR.Own.model_dir" in problems[0] and "there is no such directory. Get one: https://" in problems[0]


def test_a_missing_key_is_named() -> None:
    """As the engine would name it."""
    with pytest.raises(ConfigError) as refused:
        check_local_asr(EngineChoice(name="Own", type="sherpa"))
    assert refused.value.key == "ASR.Own.model_dir"


def test_other_engines_are_none_of_its_business() -> None:
    """They have no model of their own to look for."""
    for type_name in ("pocketsphinx", "doubao_stream"):
        check_local_asr(EngineChoice(name="Other", type=type_name))
