"""type: sherpa. The models of sherpa-onnx, by what lies in the directory.

SenseVoice, Paraformer, Zipformer, NeMo CTC and Whisper hear utterances whole; streaming Zipformer and Paraformer tell
partials.
"""

from __future__ import annotations

import json

from shared.config.local_asr import sherpa_model
from shared.config.options.sherpa import SherpaAsrOptions
from shared.settings import EngineChoice
from workers.asr.engines.model_process import ModelSpec, threads_of
from workers.asr.engines.model_recogniser import ModelEngine
from workers.asr.engines.models import Models

MODULE = "workers.asr.engines.sherpa_decoder"
TOLD = ("sense_voice", "whisper")
"""Kinds that listen for a language if they are told one, when they are loaded; without, they find it out."""


class SherpaEngine(ModelEngine):
    """One section."""

    def __init__(self, choice: EngineChoice, models: Models) -> None:
        options = SherpaAsrOptions.of(choice)
        found = sherpa_model(choice, options)
        threads = threads_of(options.threads)
        child = options.model_dump(exclude={"model_dir", "model_type", "threads", "language"}) | {
            "model": found.kind,
            "files": dict(found.files),
            "threads": threads,
            "language": "" if options.language == "auto" or found.kind not in TOLD else options.language,
        }
        spec = ModelSpec(
            key="sherpa " + json.dumps(child, sort_keys=True),
            name=f"{found.kind} {options.model_dir}",
            module=MODULE,
            options=child,
            threads=threads,
        )
        super().__init__(models, spec, None)
