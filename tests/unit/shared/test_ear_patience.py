"""The ear waits longer than whoever recognises may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.ear_patience import ANSWER_S, asks_outside, with_ear_patience
from shared.config.load import load
from shared.settings import AsrSettings, EngineChoice, RouterSettings, Settings

pytestmark = pytest.mark.unit

LOCAL = EngineChoice(name="Here", type="pocketsphinx")
CLOUD = EngineChoice(name="Cloud", type="fun_server")
MODEL = EngineChoice(name="Model", type="sherpa")


def settings(*choices: EngineChoice, ear_s: float = 3.0) -> Settings:
    asr = AsrSettings(engine=choices[0], engines={one.name: one for one in choices}, upstream_timeout_s=8.0)
    return Settings(asr=asr, router=RouterSettings(final_timeout_s=ear_s))


def test_with_engines_that_compute_here_nothing_changes() -> None:
    """A hanging worker is told from a busy one as soon as ever."""
    here = settings(LOCAL, MODEL)
    assert not asks_outside(here.asr)
    assert with_ear_patience(here) is here


@pytest.mark.parametrize("choices", [(CLOUD,), (LOCAL, CLOUD)])
def test_a_service_outside_has_its_time(choices: tuple[EngineChoice, ...]) -> None:
    """Whether the cluster asks it, or one device with a section of its own."""
    assert with_ear_patience(settings(*choices)).router.final_timeout_s == 8.0 + ANSWER_S


def test_an_ear_that_is_more_patient_stays_so() -> None:
    """The operator's longer time is kept."""
    assert with_ear_patience(settings(CLOUD, ear_s=20.0)).router.final_timeout_s == 20.0


def test_an_example_that_was_never_filled_in_leads_nowhere(tmp_path: Path) -> None:
    """Files that list every service there is, and use none."""
    text = "selected_module: {ASR: A}\nASR: {A: {type: scripted}, B: {type: openai, model_name: m, api_key: 你的}}"
    (tmp_path / ".config.yaml").write_text(text, "utf-8")
    assert load({"XZ_DATA_DIR": str(tmp_path)}).router.final_timeout_s == 3.0


def test_the_files_service_is_waited_for(tmp_path: Path) -> None:
    """As the whole cluster reads it."""
    text = "selected_module: {ASR: [F, A]}\nASR: {A: {type: scripted}, F: {type: fun_server}}"
    (tmp_path / ".config.yaml").write_text(text, "utf-8")
    settings = load({"XZ_DATA_DIR": str(tmp_path)})
    assert (settings.asr.fallbacks, settings.asr.upstream_timeout_s) == (("A",), 8.0)
    assert settings.router.final_timeout_s == 8.0 + ANSWER_S
