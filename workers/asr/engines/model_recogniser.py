"""A recogniser that borrows a loaded model for each utterance; it holds nothing between two.

Rules: what is fed before the model is loaded waits here, in order. The model is given back exactly once, however the
utterance ends. Cancelling takes effect at once: the child drops what it has not computed yet, and what it still says is
nobody's.
"""

from __future__ import annotations

from shared.errors import EngineError
from workers.asr.engines.engine import Brief, OnLoss, OnPartial, Recogniser, Transcript
from workers.asr.engines.model_process import ModelProcess, ModelSpec, OpenUtterance
from workers.asr.engines.models import Loan, Models


class ModelRecogniser:
    """One utterance at a time."""

    def __init__(self, models: Models, spec: ModelSpec, language: str | None, on_loss: OnLoss) -> None:
        """`language`: what to listen for, or "auto" to have it found out; None = as each utterance's brief says."""
        self._models = models
        self._spec = spec
        self._language = language
        self._on_loss = on_loss
        self._loan: Loan | None = None
        self._process: ModelProcess | None = None
        self._utterance: OpenUtterance | None = None
        self._waiting: list[bytes] = []
        self._brief: Brief | None = None
        self._on_partial: OnPartial = lambda text: None
        self._is_finishing = self._is_broken = self._is_closed = False

    @property
    def is_usable(self) -> bool:
        return not (self._is_broken or self._is_closed)

    def begin(self, brief: Brief, on_partial: OnPartial) -> None:
        self._check()
        self._brief, self._on_partial, self._is_finishing = brief, on_partial, False
        self._loan = loan = self._models.borrow(self._spec)
        if loan.process.done():
            self._open(self._loaded(loan))
        else:
            loan.process.add_done_callback(lambda process: self._on_loaded(loan))

    def feed(self, pcm: bytes) -> None:
        self._check()
        assert self._loan is not None, "feed without begin"
        if self._process is None or self._utterance is None:
            self._waiting.append(pcm)
        else:
            self._process.feed(self._utterance, pcm)

    async def finish(self) -> Transcript:
        self._check()
        assert self._loan is not None, "finish without begin"
        self._is_finishing = True
        try:
            process = await self._loan.process
            if self._utterance is None:
                self._open(process)
            assert self._utterance is not None
            transcript = await process.finish(self._utterance)
        except EngineError:
            self._is_broken = True
            raise
        finally:
            self._let_go()
        return transcript

    async def cancel(self) -> None:
        self._check()
        self._let_go()

    async def close(self) -> None:
        self._is_closed = True
        self._let_go()

    def _check(self) -> None:
        if not self.is_usable:
            raise EngineError(f"{self._spec.module} is gone", code="engine_died", retryable=True)

    def _on_loaded(self, loan: Loan) -> None:
        """Or it could not be; unless the utterance is over meanwhile."""
        if loan is not self._loan or self._utterance is not None or loan.process.cancelled():
            return
        try:
            self._open(self._loaded(loan))
        except EngineError as error:
            self._on_failure(error)

    def _loaded(self, loan: Loan) -> ModelProcess:
        try:
            return loan.process.result()
        except EngineError:
            self._is_broken = True
            self._let_go()
            raise

    def _open(self, process: ModelProcess) -> None:
        self._process = process
        self._utterance = process.begin(self._language_of_this(), self._on_partial, self._on_failure)
        for pcm in self._waiting:
            process.feed(self._utterance, pcm)
        self._waiting.clear()

    def _language_of_this(self) -> str | None:
        if self._language == "auto":
            return None
        return self._language or (self._brief.language if self._brief else None)

    def _on_failure(self, error: EngineError) -> None:
        self._is_broken = True
        if not self._is_finishing:
            self._on_loss(error)

    def _let_go(self) -> None:
        """Also of an utterance that has ended: then the process has forgotten it already."""
        if self._process is not None and self._utterance is not None:
            self._process.cancel(self._utterance)
        self._process = self._utterance = None
        self._waiting.clear()
        if self._loan is not None:
            self._models.give_back(self._loan)
            self._loan = None


class ModelEngine:
    """What the engines of loaded models have in common."""

    is_heavy = True

    def __init__(self, models: Models, spec: ModelSpec, language: str | None) -> None:
        self._models = models
        self.spec = spec
        self._language = language

    async def make(self, on_loss: OnLoss) -> Recogniser:
        await self._models.warm(self.spec)
        return ModelRecogniser(self._models, self.spec, self._language, on_loss)
