"""type: whisper. Any of OpenAI's Whisper models through faster-whisper; it hears utterances whole.

A model is a directory, or a size that is looked for among what was fetched before; nothing is fetched at run time
unless the section says `download: true`.
"""

from __future__ import annotations

import json

from shared.config.local_asr import whisper_model
from shared.config.options.whisper import WhisperAsrOptions
from shared.settings import EngineChoice
from workers.asr.engines.model_process import LOAD_S, ModelSpec, threads_of
from workers.asr.engines.model_recogniser import ModelEngine
from workers.asr.engines.models import Models

MODULE = "workers.asr.engines.whisper_decoder"
DOWNLOAD_S = 1800.0
"""The largest model is 3 GB."""


class WhisperEngine(ModelEngine):
    """One section."""

    def __init__(self, choice: EngineChoice, models: Models) -> None:
        options = WhisperAsrOptions.of(choice)
        whisper_model(choice, options)
        super().__init__(models, spec_of(options), options.language or None)


def spec_of(options: WhisperAsrOptions) -> ModelSpec:
    """Sections that differ in nothing but their language share a model."""
    threads = threads_of(options.threads)
    child = options.model_dump(exclude={"language", "threads", "model", "model_dir"}) | {
        "model": options.directory or options.model,
        "threads": threads,
    }
    may_fetch = options.download and not options.directory
    return ModelSpec(
        key="whisper " + json.dumps(child, sort_keys=True),
        name=f"whisper {options.directory or options.model}",
        module=MODULE,
        options=child,
        threads=threads,
        variables={} if may_fetch else {"HF_HUB_OFFLINE": "1"},
        load_s=DOWNLOAD_S if may_fetch else LOAD_S,
    )
