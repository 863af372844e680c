"""A child's decoder that fails on purpose: `sleep`, `raise`, `exit` or `pause`, at `begin`, `feed` or `finish`."""

from __future__ import annotations

import os
import time
from typing import Any


class FaultyDecoder:
    """Fails only in utterances whose first byte of audio is 1 (or in every `begin`); else says how much it heard."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._how, self._where = options["how"], options["where"]
        self._heard = b""

    def begin(self) -> None:
        self._heard = b""
        self._fail("begin")

    def feed(self, pcm: bytes) -> str:
        self._heard += pcm
        self._fail("feed")
        return f"{len(self._heard)}"

    def finish(self) -> str:
        self._fail("finish")
        return f"{len(self._heard)}"

    def cancel(self) -> None:
        self._fail("cancel")

    def _fail(self, where: str) -> None:
        if where != self._where or not (where == "begin" or self._heard.startswith(b"\x01")):
            return
        if self._how == "sleep":
            time.sleep(20)
        if self._how == "pause":
            time.sleep(0.5)
            return
        if self._how == "exit":
            os._exit(3)
        raise ValueError("on purpose")


def make_decoder(options: dict[str, Any]) -> FaultyDecoder:
    if options.get("where") == "make":
        raise ValueError("on purpose")
    return FaultyDecoder(options)
