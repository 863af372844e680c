"""type: pocketsphinx. English, streaming, its model inside the wheel; each recogniser is a child process.

It never releases the interpreter lock, so it must not run in the worker. Options: `hmm`, `lm`, `dict` (paths of another
model), `lw` (language weight), `phrases` (sentences to listen for besides free speech; default: the built-in English
ones; [] = none).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError
from shared.settings import EngineChoice
from workers.asr.engines.engine import OnLoss, Recogniser
from workers.asr.engines.process import ChildRecogniser

DECODER_MODULE = "workers.asr.engines.pocketsphinx_decoder"


class Options(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    hmm: str | None = None
    lm: str | None = None
    dictionary: str | None = Field(None, alias="dict")
    lw: float | None = None
    phrases: list[str] | None = None


class PocketSphinxEngine:
    """Makes the children."""

    is_heavy = True

    def __init__(self, choice: EngineChoice) -> None:
        try:
            self._options = Options.model_validate(choice.options).model_dump(exclude_none=True, by_alias=True)
        except ValidationError as error:
            raise ConfigError(f"ASR.{choice.name}", choice.options, "options of the pocketsphinx engine") from error

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return await ChildRecogniser.spawn(DECODER_MODULE, self._options, on_loss)
