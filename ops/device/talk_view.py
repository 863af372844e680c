"""What `xiaozhi talk` shows: lines with the time of each stage, and on a terminal one line that moves."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ops.device.news import Kind, News
from ops.device.turn import TurnReport

_WORDS = {
    Kind.TRANSCRIPT: "transcript",
    Kind.EMOTION: "emotion",
    Kind.REPLY_STARTED: "reply starts",
    Kind.SENTENCE: "says",
    Kind.FIRST_AUDIO: "first sound",
    Kind.ABORTED: "interrupted",
    Kind.REPLY_STOPPED: "reply ends",
    Kind.TOOL_CALLED: "tool called",
    Kind.CLOSED: "closed",
}

_NEXT = {
    Kind.LISTENING: "speaking to the device",
    Kind.DONE_SPEAKING: "waiting for the transcript",
    Kind.TRANSCRIPT: "waiting for the reply",
    Kind.REPLY_STARTED: "waiting for its sound",
    Kind.FIRST_AUDIO: "listening to the reply",
    Kind.REPLY_STOPPED: "hearing the reply out",
}


class View(Protocol):
    """Where a conversation is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def waiting(self, what: str) -> None: ...

    def connected(self, url: str, device: str) -> None: ...

    def turn(self, words: str, speech_s: float) -> None: ...

    def on_news(self, news: News) -> None: ...

    def report(self, report: TurnReport) -> None: ...

    def warning(self, text: str) -> None: ...


class JsonView:
    """One JSON object a turn on standard output; warnings on standard error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def waiting(self, what: str) -> None:
        pass

    def connected(self, url: str, device: str) -> None:
        pass

    def turn(self, words: str, speech_s: float) -> None:
        pass

    def on_news(self, news: News) -> None:
        pass

    def report(self, report: TurnReport) -> None:
        print(json.dumps(report.to_json(), ensure_ascii=False), flush=True)

    def warning(self, text: str) -> None:
        print(f"xiaozhi talk: {text}", file=sys.stderr)


class TalkView:
    """For people."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def waiting(self, what: str) -> None:
        """The line that moves; its clock starts anew."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=None)

    def connected(self, url: str, device: str) -> None:
        self._line(f"connected to {url} as {device}")

    def turn(self, words: str, speech_s: float) -> None:
        length = f" ({speech_s:.1f} s)" if speech_s else ""
        self._line(f"\nyou: {words}{length}")
        self.waiting("speaking to the device" if speech_s else "waiting for the transcript")

    def on_news(self, news: News) -> None:
        if news.kind in _WORDS:
            moment = "" if news.ms is None else f"{news.ms:.0f} ms"
            self._line(f"{moment:>10}  {_WORDS[news.kind]:<12} {news.text}".rstrip())
        if news.kind in _NEXT:
            self.waiting(_NEXT[news.kind])

    def report(self, report: TurnReport) -> None:
        counters = report.counters
        losses = {
            "late": counters.late_frames,
            "underruns": counters.underruns,
            "lost in a full queue": counters.overflow_frames,
            "before the device was ready": counters.early_frames,
            "stale": counters.stale_frames,
        }
        found = ", ".join(f"{count} {words}" for words, count in losses.items() if count) or "none late or lost"
        self._line(f"{'':>10}  {'heard':<12} {report.heard_s:.1f} s in {counters.frames} frames, {found}")

    def warning(self, text: str) -> None:
        self._line(f"warning: {text}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, emoji=False)
