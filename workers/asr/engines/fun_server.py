"""type: fun_server. A FunASR runtime's WebSocket server; a connection for each utterance, as its protocol wants.

The server says nothing before it has something to say, so the sound leaves as soon as the connection is there.
"""

from __future__ import annotations

from typing import Final

from shared.config.options.fun import FunServerAsrOptions
from shared.settings import EngineChoice
from shared.upstream.deadlines import Deadlines
from shared.upstream.host import is_name
from shared.upstream.tls import prepare_trust
from shared.upstream.upstream import Limits, Upstream
from shared.upstream.websocket import Wire, open_wire
from workers.asr.engines.dialogue import Dialogue
from workers.asr.engines.engine import Brief, EndOwner, OnLoss, Recogniser
from workers.asr.engines.fun_protocol import FunDialogue, Wishes
from workers.asr.engines.remote import RemoteRecogniser, Service

SESSION_S: Final = 300.0
"""Longer than any utterance."""
SUBPROTOCOL: Final = "binary"
"""The Python server refuses a client that does not name it."""


class FunServerEngine:
    """One configured section."""

    is_heavy = False

    def __init__(self, choice: EngineChoice) -> None:
        """Raises ConfigError."""
        options = FunServerAsrOptions.of(choice)
        self.endpoint: EndOwner = options.endpoint
        self.resolves_names = is_name(options.url)
        prepare_trust(options.url)
        self._url = options.url
        # Written like this by today's server, for whatever checks it on the way.
        self._headers = {"Authorization": f"Bearer; {options.key}"} if options.key else {}
        self._wishes = Wishes(options.mode, options.chunk_size, options.hotword_text, options.itn)
        self._service = Service(
            Upstream(f"ASR.{choice.name}", _limits(options)),
            self._connect,
            self._dialogue,
            self.endpoint,
            starts_at_once=True,
        )

    async def make(self, on_loss: OnLoss) -> Recogniser:
        return RemoteRecogniser(self._service)

    async def close(self) -> None:
        """Nothing is kept."""

    async def _connect(self, brief: Brief) -> Wire:
        return await open_wire(self._url, self._headers, subprotocols=(SUBPROTOCOL,))

    def _dialogue(self, brief: Brief) -> Dialogue:
        return FunDialogue(self._wishes, f"{brief.session}-{brief.utterance}")


def _limits(options: FunServerAsrOptions) -> Limits:
    deadlines = Deadlines(options.connect_timeout_s, options.first_timeout_s, options.idle_timeout_s, total_s=SESSION_S)
    return Limits(deadlines, sessions=options.max_sessions)
