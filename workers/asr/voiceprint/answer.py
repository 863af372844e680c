"""What a voiceprint server's answer means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.upstream.faults import Code, UpstreamError
from shared.voiceprint import UNKNOWN


def speaker_in(answer: Any, names: Mapping[str, str], threshold: float) -> str:
    """The name of the voice in `{"speaker_id", "score"}`; UNKNOWN if it is like nobody's. Raises UpstreamError.

    `names` are by id; a score is how alike the two voices are, 0 to 1.
    """
    match answer:
        case {"speaker_id": str(speaker), "score": int(score) | float(score)} if not isinstance(score, bool):
            return names.get(speaker, UNKNOWN) if score >= threshold else UNKNOWN
        case {"speaker_id": None | ""}:
            return UNKNOWN
    raise UpstreamError("no speaker in the answer", code=Code.MALFORMED)


def is_healthy(answer: Any) -> bool:
    return isinstance(answer, Mapping) and answer.get("status") == "healthy"
