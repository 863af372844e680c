"""What the model is told of the conversation so far: bounded, and only what really happened.

Rules
- An exchange is one input with everything that answered it. It counts as said when its turn is over: whole if the
  reply was heard to its end, else cut to what was heard, at a word's end.
- A tool call whose result never came is not told to a model: every call in a message must have its answer, or
  OpenAI-compatible servers refuse the request.
- Inputs that are our own prompts (a greeting, a farewell) are not told as the person's words.
- Exchanges are dropped from the oldest, whole, so that the messages never begin with an answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from workers.session.language import is_cjk


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as the model asked for it; `arguments` is the JSON text it wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant", "tool"]
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolRound:
    """One answer of the model that called tools. `text` was said before the calls; `results` are by call id."""

    text: str
    calls: tuple[ToolCall, ...]
    results: dict[str, str]

    def messages(self, text: str) -> list[Message]:
        calls = tuple(call for call in self.calls if call.id in self.results)
        if not calls:
            return [Message("assistant", text)] if text else []
        answers = [Message("tool", self.results[call.id], call_id=call.id) for call in calls]
        return [Message("assistant", text, calls), *answers]


@dataclass(slots=True)
class Exchange:
    """One turn. `said` is the reply's text after the last tool round."""

    gen: int
    asked: str
    is_prompt: bool = False
    rounds: list[ToolRound] = field(default_factory=list)
    said: str = ""
    heard: str | None = None
    """None until the turn is over, and if all of the reply was heard."""

    def messages(self) -> list[Message]:
        messages = [] if self.is_prompt else [Message("user", self.asked)]
        cut = self.heard
        for turn in self.rounds:
            text = turn.text
            if cut is not None:
                text, cut = _take(cut, text)
            messages += turn.messages(text)
        last = self.said if cut is None else cut
        if last.strip():
            messages.append(Message("assistant", last.strip()))
        return messages


class Dialogue:
    """The exchanges of one device, oldest first."""

    def __init__(self, most_messages: int) -> None:
        self._most_messages = most_messages
        self._exchanges: deque[Exchange] = deque()
        self._open: Exchange | None = None
        self.turns = 0
        self.last_reply = ""
        """What a person means by "say that again": the last reply of which something was heard."""

    def __repr__(self) -> str:
        return f"Dialogue(exchanges={len(self._exchanges)}, open={self._open is not None}, turns={self.turns})"

    def begin(self, gen: int, text: str, *, is_prompt: bool = False) -> None:
        """A turn begins. One that is still open has not been heard at all."""
        if self._open is not None:
            self.commit(self._open.gen, [], 0, 0.0, is_complete=False)
        self.turns += 1
        self._open = Exchange(gen, text, is_prompt=is_prompt)

    def called(self, gen: int, turn: ToolRound) -> None:
        if self._open is not None and self._open.gen == gen:
            self._open.rounds.append(turn)

    def said(self, gen: int, text: str) -> None:
        """The text of the reply, as the model wrote it, after its last tool round."""
        if self._open is not None and self._open.gen == gen:
            self._open.said = text

    def commit(
        self, gen: int, segments: list[str], played_segments: int, played_part: float, *, is_complete: bool
    ) -> None:
        """The turn is over: its reply counts as far as it was heard."""
        exchange = self._open
        if exchange is None or exchange.gen != gen:
            return
        self._open = None
        heard = heard_text(segments, played_segments, played_part)
        if not (is_complete and played_segments >= len(segments)):
            exchange.heard = heard
        self.last_reply = heard or self.last_reply
        if not exchange.is_prompt or exchange.messages():
            self._exchanges.append(exchange)
        self._trim()

    def messages(self) -> list[Message]:
        """The exchanges that are over, then the open one's question; neighbouring questions become one."""
        messages = [message for exchange in self._exchanges for message in exchange.messages()]
        if self._open is not None:
            messages.append(Message("user", self._open.asked))
        return _merged(messages)

    def _trim(self) -> None:
        while len(self._exchanges) > 1 and self._count() > self._most_messages:
            self._exchanges.popleft()

    def _count(self) -> int:
        return sum(len(exchange.messages()) for exchange in self._exchanges)


def heard_text(segments: list[str], played_segments: int, played_part: float) -> str:
    """The segments heard whole, and the next one as far as it was heard, back to a word's end."""
    heard = segments[:played_segments]
    if played_segments < len(segments):
        heard.append(_cut(segments[played_segments], played_part))
    return _joined([segment for segment in heard if segment])


def _cut(text: str, part: float) -> str:
    size = int(len(text) * min(max(part, 0.0), 1.0))
    while 0 < size < len(text) and not (_ends_word(text, size)):
        size -= 1
    return text[:size].rstrip()


def _ends_word(text: str, size: int) -> bool:
    before, after = text[size - 1], text[size]
    return not (before.isalnum() and after.isalnum()) or is_cjk(before) or is_cjk(after)


def _joined(parts: list[str]) -> str:
    text = ""
    for part in parts:
        text += part if not text or is_cjk(text[-1]) or is_cjk(part[0]) else f" {part}"
    return text


def _letters(text: str) -> int:
    return sum(char.isalnum() for char in text)


def _take(heard: str, text: str) -> tuple[str, str]:
    """Split what was heard behind as many letters as `text` has: what was heard of it, and the rest."""
    letters = _letters(text)
    for index, char in enumerate(heard):
        if letters == 0 and char.isalnum():
            return heard[:index].strip(), heard[index:]
        letters -= char.isalnum()
    return heard.strip(), ""


def _merged(messages: list[Message]) -> list[Message]:
    """Some models' chat templates refuse two messages of the user in a row."""
    merged: list[Message] = []
    for message in messages:
        if merged and message.role == merged[-1].role == "user":
            merged[-1] = Message("user", f"{merged[-1].text}\n{message.text}")
        else:
            merged.append(message)
    return merged
