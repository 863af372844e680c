"""type: doubao_stream. Volcengine's large-model streaming recognition; a connection for each utterance, as it wants."""

from __future__ import annotations

import uuid
from typing import Final

from shared.config.options.volcengine import DoubaoAsrOptions
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.host import is_name
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Upstream
from shared.upstream.websocket import Wire, open_wire
from workers.asr.engines.dialogue import Dialogue
from workers.asr.engines.doubao_protocol import DoubaoDialogue, Wishes
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, Recogniser
from workers.asr.engines.remote import RemoteRecogniser, Service

SESSION_S: Final = 300.0
"""Longer than any utterance."""
SILENCE_MS: Final[dict[EndOwner, int]] = {"own": 3000, "upstream": 800}
"""What ends a sentence if the section says nothing: later than we do ourselves, or as the service does by default."""


class DoubaoStreamEngine:
    """One configured section."""

    is_heavy = False

    def __init__(self, choice: EngineChoice) -> None:
        """Raises ConfigError."""
        options = DoubaoAsrOptions.of(choice)
        self.endpoint: EndOwner = options.endpoint
        self.resolves_names = is_name(options.url)
        prepare_trust(options.url)
        self._url = options.url
        self._headers = {
            "X-Api-App-Key": options.appid,
            "X-Api-Access-Key": options.access_token,
            "X-Api-Resource-Id": options.resource_id,
        }
        self._wishes = _wishes(options)
        self._service = Service(
            Upstream(f"ASR.{choice.name}", _limits(options)), self._connect, self._dialogue, self.endpoint
        )

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return RemoteRecogniser(self._service)

    async def close(self) -> None:
        """Nothing is kept."""

    async def _connect(self, brief: Brief) -> Wire:
        return await open_wire(self._url, {**self._headers, "X-Api-Connect-Id": str(uuid.uuid4())})

    def _dialogue(self, brief: Brief) -> Dialogue:
        return DoubaoDialogue(self._wishes, brief.session)


def _wishes(options: DoubaoAsrOptions) -> Wishes:
    return Wishes(
        options.end_window_size or SILENCE_MS[options.endpoint],
        ends_early=options.endpoint == "upstream",
        language=options.language if options.enable_multilingual else "",
        boosting_table_name=options.boosting_table_name,
        correct_table_name=options.correct_table_name,
    )


def _limits(options: DoubaoAsrOptions) -> Limits:
    deadlines = Deadlines(options.connect_timeout_s, options.first_timeout_s, options.idle_timeout_s, total_s=SESSION_S)
    return Limits(deadlines, sessions=options.max_sessions)
