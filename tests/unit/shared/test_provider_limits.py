"""What one of several workers may ask of a provider at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config.options.table import OPTIONS
from shared.config.provider_limits import KEY, for_one_of
from shared.desired import number_of, write_desired
from shared.settings import EngineChoice, TtsSettings

pytestmark = pytest.mark.unit

HUOSHAN = {
    "ws_url": "wss://openspeech.example/api",
    "appid": "1234567",
    "access_token": "t",
    "speaker": "s",
    "resource_id": "volc.service_type.10029",
}


def huoshan(**options: Any) -> EngineChoice:
    return EngineChoice(name="Huoshan", type="huoshan_double_stream", options={**HUOSHAN, **options})


@pytest.mark.parametrize(("given", "processes", "own"), [(10, 4, 2), ("12", 2, 6), (1, 8, 1), (0, 4, 0)])
def test_each_worker_takes_an_equal_part(given: object, processes: int, own: int) -> None:
    """Of the account's number, however it is written; none stays none."""
    settings = for_one_of(TtsSettings(engine=huoshan(**{KEY: given})), processes)
    assert settings.engine.options[KEY] == own


def test_a_number_that_is_not_given_is_the_types_own() -> None:
    """The provider's default limit holds for all workers together as well."""
    total = OPTIONS["TTS", "huoshan_double_stream"].of(huoshan()).max_sessions  # type: ignore[attr-defined]
    settings = for_one_of(TtsSettings(engines={"Huoshan": huoshan()}), 2)
    assert settings.engines["Huoshan"].options[KEY] == total // 2 > 0


def test_what_asks_nobody_and_what_cannot_be_used_stay_as_they_are() -> None:
    """Its engine says what is wrong with a section."""
    espeak = EngineChoice(name="E", type="espeak")
    broken = EngineChoice(name="B", type="huoshan_double_stream", options={KEY: "many"})
    settings = TtsSettings(engine=espeak, engines={"B": broken})
    assert for_one_of(settings, 4) == settings


def test_the_number_of_workers_is_what_the_cluster_wants_now(tmp_path: Path) -> None:
    """`xiaozhi scale` changes it; nobody knows it where no cluster runs."""
    assert number_of("tts", tmp_path) is None
    write_desired(tmp_path, {"tts": [0, 1, 2]})
    assert (number_of("tts", tmp_path), number_of("asr", tmp_path)) == (3, 0)
