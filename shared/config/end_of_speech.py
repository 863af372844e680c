"""Who finds the end of speech, and where a file names two silences that contradict each other. Pure.

One owner: our endpointing, after the silence of VAD (`min_silence_duration_ms`), or with `endpoint: upstream` the
recogniser's service, after its own. Whatever the other one would do earlier is named at the start.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.config.findings import ConfigWarning
from shared.listening import VadProfile
from shared.settings import EngineChoice

SILENCES = ("max_sentence_silence", "end_window_size")
"""What services call the silence that ends a sentence, in milliseconds."""


def disagreements(asr: EngineChoice, vad: VadProfile) -> Iterator[ConfigWarning]:
    """Of the selected recogniser's section with the VAD's."""
    for name in SILENCES:
        silence_ms = _milliseconds(asr.options.get(name))
        if silence_ms is None:
            continue
        key = f"ASR.{asr.name}.{name}"
        ours_ms = vad.end_silence_ms
        if asr.options.get("endpoint") == "upstream":
            if silence_ms >= ours_ms:
                yield ConfigWarning(
                    key,
                    f"{silence_ms} ms is not below VAD's min_silence_duration_ms ({ours_ms}), which therefore ends "
                    "each utterance first; lower the one or raise the other",
                )
        elif silence_ms < ours_ms:
            yield ConfigWarning(
                key,
                f"{silence_ms} ms is below VAD's min_silence_duration_ms ({ours_ms}): the service cuts sentences where "
                "we do not yet answer; set endpoint: upstream if it shall decide",
            )


def _milliseconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None
