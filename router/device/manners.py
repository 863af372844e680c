"""How much one device may send.

Nonsense: every malformed message costs a token; with none left, messages are dropped unread until one has come back.
Valid audio never counts. A flood: more messages of any kind within a second than any device could mean (frames of 20 ms
are 50 a second, and a stalled device keeps 40); its connection is closed. Counting costs one comparison a message.

Texts, right or wrong: each may open a stream, ask a model or be parsed for milliseconds, so they cost tokens by their
length. A device says a few a turn, and answers with some pages of tools when it has connected.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from router.talk.flow_control import TokenBucket

BURST_MESSAGES = 40
REFILL_PER_S = 10.0

TEXT_BURST = 64
TEXTS_PER_S = 20.0
CHARS_PER_TOKEN = 2048

FLOOD_MESSAGES = 1000
FLOOD_S = 1.0


@dataclass(slots=True)
class Manners:
    """Of one connection."""

    now: float
    messages: int = 0
    """Counted by the caller."""
    quota: int = FLOOD_MESSAGES
    """Above it, ask `floods`."""
    _bucket: TokenBucket = field(init=False)
    _texts: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = TokenBucket(BURST_MESSAGES, 1.0 / REFILL_PER_S, BURST_MESSAGES, self.now)
        self._texts = TokenBucket(TEXT_BURST, 1.0 / TEXTS_PER_S, TEXT_BURST, self.now)

    def floods(self, now: float) -> bool:
        """The quota is used up: was it in less than FLOOD_S? If not, there is a new one."""
        if now - self.now < FLOOD_S:
            return True
        self.now, self.quota = now, self.messages + FLOOD_MESSAGES
        return False

    def chatters(self, chars: int, now: float) -> bool:
        """Is this text, of so many characters, one too many? If not, it is paid for."""
        self._texts.refill(now)
        cost = 1 + chars // CHARS_PER_TOKEN
        if self._texts.tokens < cost:
            return True
        for _ in range(cost):
            self._texts.take(now)
        return False

    def limited(self, now: float) -> bool:
        self._bucket.refill(now)
        return self._bucket.tokens < 1.0

    def offend(self, now: float) -> None:
        self._bucket.take(now)
