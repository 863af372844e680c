"""type: aliyun_stream. Alibaba Cloud's real-time transcription; a connection for each utterance.

The service wants its connection closed after TranscriptionCompleted, so none is kept: connecting runs while the person
speaks and costs the text no time.
"""

from __future__ import annotations

import uuid
from typing import Final

from shared.config.options.aliyun import AliyunAsrOptions
from shared.settings import EngineChoice
from shared.upstream.aliyun_token import token_source
from shared.upstream.deadlines import Deadlines
from shared.upstream.faults import Code, UpstreamError
from shared.upstream.host import is_name
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Upstream
from shared.upstream.websocket import Wire, open_wire
from workers.asr.engines.aliyun_protocol import AliyunDialogue, Wishes
from workers.asr.engines.dialogue import Dialogue
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, Recogniser
from workers.asr.engines.remote import RemoteRecogniser, Service

SESSION_S: Final = 300.0
"""Longer than any utterance."""
SILENCE_MS: Final[dict[EndOwner, int]] = {"own": 2000, "upstream": 800}
"""What ends a sentence if the section says nothing: later than we do ourselves, or as the service does by default."""
BAD_TOKEN: Final = frozenset({"401", "403", "40000001"})


def new_id() -> str:
    return uuid.uuid4().hex


class AliyunStreamEngine:
    """One configured section."""

    is_heavy = False

    def __init__(self, choice: EngineChoice) -> None:
        """Raises ConfigError."""
        options = AliyunAsrOptions.of(choice)
        name = f"ASR.{choice.name}"
        self.endpoint: EndOwner = options.endpoint
        self.resolves_names = any(map(is_name, options.addresses))
        prepare_trust(options.url)
        self._url = options.url
        self._renews_token = bool(options.access_key_id and options.access_key_secret)
        self._token = ""
        """What was sent last."""
        self._tokens = token_source(
            options.token, options.access_key_id, options.access_key_secret, url=options.token_url, name=name
        )
        self._wishes = _wishes(options)
        self._service = Service(
            Upstream(name, _limits(options)), self._connect, self._dialogue, self.endpoint, self._judged
        )

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return RemoteRecogniser(self._service)

    async def close(self) -> None:
        await self._tokens.close()

    async def _connect(self, brief: Brief) -> Wire:
        self._token = token = await self._tokens.value()
        return await open_wire(self._url, {"X-NLS-Token": token})

    def _dialogue(self, brief: Brief) -> Dialogue:
        return AliyunDialogue(self._wishes, new_id(), new_id)

    def _judged(self, error: UpstreamError) -> UpstreamError:
        """A token may be taken back before it expires: the retry has a new one."""
        if not self._renews_token or error.reason not in BAD_TOKEN:
            return error
        self._tokens.reject(self._token)
        return UpstreamError("it does not take the token", code=Code.AUTH, reason=error.reason)


def _wishes(options: AliyunAsrOptions) -> Wishes:
    silence_ms = options.max_sentence_silence or SILENCE_MS[options.endpoint]
    return Wishes(options.appkey, silence_ms, options.vocabulary_id, options.customization_id)


def _limits(options: AliyunAsrOptions) -> Limits:
    deadlines = Deadlines(options.connect_timeout_s, options.first_timeout_s, options.idle_timeout_s, total_s=SESSION_S)
    return Limits(deadlines, sessions=options.max_sessions)
