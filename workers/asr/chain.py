"""By which engine an utterance is recognised, which one takes over when it fails, and how long each may take. Pure.

* Any failure passes the utterance to the next engine. When all have failed the last error stands.
* Times run from the end of speech; before it nobody is hurried. The whole may take as long as its slowest kind of
  engine: `upstream_s` if a service outside is among them, else `local_s`.
* An engine with others behind it leaves each of them `local_s`, or at least an equal share of what is left.
* Another worker may try if it might fare better: it asks the same services, so it is no help where all of those failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import EngineError
from shared.upstream.chain import Chain
from shared.upstream.faults import Code, UpstreamError
from workers.asr.engines.engine import EndOwner


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine, by its section's name."""

    engine: str
    is_remote: bool = False
    """It asks a service outside."""
    endpoint: EndOwner = "own"
    """Who finds the end of speech while it is at work."""


@dataclass(slots=True)
class RecognitionChain(Chain[Candidate]):
    """Of one utterance."""

    local_s: float
    upstream_s: float

    @property
    def can_repeat(self) -> bool:
        """Whether the sound may be needed again: for a retry, or for the next engine."""
        return self.current.is_remote or not self.is_last

    @property
    def total_s(self) -> float:
        """From the end of speech to the text, whoever gives it."""
        return self.upstream_s if any(one.is_remote for one in self.candidates) else self.local_s

    def due_s(self, elapsed_s: float) -> float:
        """When the current engine's time is up, for one that is at work `elapsed_s` after the end of speech."""
        if self.is_last:
            return self.total_s
        left_s = self.total_s - elapsed_s
        share_s = max(left_s - self.behind * self.local_s, left_s / (self.behind + 1))
        own_s = self.upstream_s if self.current.is_remote else self.local_s
        return elapsed_s + min(own_s, share_s)

    def late(self) -> EngineError:
        """The current engine's time is up."""
        words = "no text within the deadline"
        if self.current.is_remote:
            return UpstreamError(words, code=Code.TOTAL_TIMEOUT)
        return EngineError(words, code="asr_timeout", retryable=True)

    def verdict(self) -> EngineError:
        """What the utterance fails with."""
        last = self._errors[-1]
        retryable = any(error.retryable for error in self._errors if not isinstance(error, UpstreamError))
        is_busy = any(error.code == Code.BUSY for error in self._errors)
        words = str(last) if len(self._errors) == 1 else f"none of {len(self._errors)} engines had a text: {last}"
        return EngineError(words, code=last.code, retryable=retryable or is_busy)
