"""How long the ear waits for a transcript: longer than whoever recognises it may take. Pure."""

from __future__ import annotations

from typing import Final

from shared.config.options.table import leads_outside
from shared.settings import AsrSettings, Settings

ANSWER_S: Final = 0.5
"""From a recogniser's deadline until its worker's answer is here."""


def with_ear_patience(settings: Settings) -> Settings:
    """The same settings, with an ear that leaves a service outside its time."""
    if not asks_outside(settings.asr):
        return settings
    wait_s = max(settings.router.final_timeout_s, settings.asr.upstream_timeout_s + ANSWER_S)
    return settings.model_copy(update={"router": settings.router.model_copy(update={"final_timeout_s": wait_s})})


def asks_outside(asr: AsrSettings) -> bool:
    """Whether any section that can be used, by the cluster or by one device, leads to a service outside."""
    return any(leads_outside("ASR", choice.type) for choice in (asr.engine, *asr.engines.values()))
