"""What the model is told of the conversation so far: bounded, and only what really happened.

Rules
- An exchange is one input with everything that answered it. It counts as said when its turn is over: whole if the
  reply was heard to its end, else cut to what was heard, at a word's end.
- A tool call whose result never came is not told to a model: every call in a message must have its answer, or
  OpenAI-compatible servers refuse the request.
- Inputs that are our own prompts (a greeting, a farewell) are not told as the person's words.
- Exchanges are dropped from the oldest, whole, so that the messages never begin with an answer.
- An exchange that is over is known by its session and generation: what comes twice, from the store or in a record,
  counts once.
- Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An exchange that is over, as a model is told of it. Without messages, nothing of it is worth telling."""

    session: str
    gen: int
    messages: tuple[Message, ...] = field(repr=False)

    @property
    def key(self) -> tuple[str, int]:
        return (self.session, self.gen)


class Dialogue:
    """The exchanges of one device, oldest first."""

    __slots__ = ("_last_reply", "_most_messages", "_open", "_past", "_session", "turns")

    def __init__(self, most_messages: int, session: str = "", known: Dialogue | None = None) -> None:
        """`known`: the device's dialogue of an earlier session, which goes on in this one."""
        self._most_messages = most_messages
        self._session = session
        self._past: list[PastTurn] = []
        self._open: Exchange | None = None
        self._last_reply = ""
        self.turns = 0
        if known is not None:
            self._past.extend(known._past)
            self._last_reply, self.turns = known._last_reply, known.turns

    def __repr__(self) -> str:
        return f"Dialogue(past={len(self._past)}, open={self._open is not None}, turns={self.turns})"

    @property
    def last_reply(self) -> str:
        """What a person means by "say that again": the last reply of which something was heard."""
        return self._last_reply or next(_replies(self._past), "")

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
    ) -> PastTurn | None:
        """The turn is over: its reply counts as far as it was heard. None if it is not the open one."""
        exchange = self._open
        if exchange is None or exchange.gen != gen:
            return None
        self._open = None
        heard = heard_text(segments, played_segments, played_part)
        if not (is_complete and played_segments >= len(segments)):
            exchange.heard = heard
        self._last_reply = heard or self.last_reply
        return self._add(PastTurn(self._session, gen, tuple(exchange.messages())))

    def adopt(self, gen: int, asked: str, heard: str, *, is_prompt: bool) -> PastTurn:
        """A turn that another worker answered, as far as it was heard. One that is known already stays as it was."""
        turn = PastTurn(self._session, gen, tuple(Exchange(gen, asked, is_prompt, heard=heard).messages()))
        if all(past.key != turn.key for past in self._past):
            self.turns += 1
            self._last_reply = heard or self.last_reply
            self._add(turn)
        return turn

    def restore(self, stored: Iterable[PastTurn]) -> None:
        """What the store knows comes first; of what is here, the turns of this session follow that it does not know."""
        past = list(stored)
        keys = {turn.key for turn in past}
        own = [turn for turn in self._past if turn.session == self._session and turn.key not in keys]
        is_open = self._open is not None
        self._past = past + own
        self._trim()
        self.turns = max(self.turns, len(self._past) + is_open)

    def messages(self) -> list[Message]:
        """The exchanges that are over, then the open one's question; neighbouring questions become one."""
        messages = [message for turn in self._past for message in turn.messages]
        if self._open is not None:
            messages.append(Message("user", self._open.asked))
        return _merged(messages)

    def _add(self, turn: PastTurn) -> PastTurn:
        if turn.messages:
            self._past.append(turn)
            self._trim()
        return turn

    def _trim(self) -> None:
        surplus = sum(len(turn.messages) for turn in self._past) - self._most_messages
        while len(self._past) > 1 and surplus > 0:
            surplus -= len(self._past.pop(0).messages)


def _replies(past: list[PastTurn]) -> Iterator[str]:
    """The newest first."""
    for turn in reversed(past):
        yield from (message.text for message in reversed(turn.messages) if message.role == "assistant" and message.text)


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
