"""A model of a child process that says how much it heard; an utterance whose first byte is 1 fails on purpose.

`how`: raise, exit, sleep or pause; `where`: make, feed or finish; `cue`: a file that is made when it begins to fail.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

PAUSE_S = 0.3


class FaultyHearing:
    def __init__(self, options: dict[str, Any], language: str | None) -> None:
        self._options = options
        self._language = language
        self._heard = b""

    def feed(self, pcm: bytes) -> str:
        self._heard += pcm
        self._fail("feed")
        return f"{len(self._heard)}"

    def finish(self) -> tuple[str, str | None]:
        self._fail("finish")
        return f"{len(self._heard)}", self._language

    def _fail(self, where: str) -> None:
        if where == self._options.get("where") and self._heard.startswith(b"\x01"):
            fail(self._options)


class FaultyModel:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def hear(self, language: str | None) -> FaultyHearing:
        return FaultyHearing(self._options, language)


def fail(options: dict[str, Any]) -> None:
    how, cue = options["how"], options.get("cue")
    if cue:
        Path(cue).touch()
    if how == "sleep":
        time.sleep(60)
    elif how == "pause":
        time.sleep(PAUSE_S)
    elif how == "exit":
        os._exit(3)
    else:
        raise ValueError("on purpose")


def make_model(options: dict[str, Any]) -> FaultyModel:
    if options.get("where") == "make":
        fail(options)
    return FaultyModel(options)
