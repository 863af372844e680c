"""The services outside of one run: fakes in this process, the configuration that leads to them, and their illnesses.

`llm` is the language model; it has a server of its own, so that what happens to it happens to nothing else. Behind the
voices stands one that computes in the worker, as in any good configuration: there is always somebody who can speak.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from bench.trial.judge import Complaint
from bench.trial.upstream_book import UpstreamBook
from bench.trial.upstream_plan import Illness, UpstreamFault
from bench.upstreams.fake import Fake
from bench.upstreams.openai_speech import OpenAiSpeech
from bench.upstreams.roster import entry_of, made, sections_of
from bench.upstreams.script import Script
from bench.upstreams.voice import MS_PER_CHAR

LLM: Final = "llm"
LLM_SECTION: Final = "OpenAILLM"
OWN_VOICE: Final = "OwnVoice"
PROVIDERS: Final = ("doubao", "fun_asr", "huoshan", "edge")
REPLY: Final = "You said {mark}. There is more to say on {mark}. With that it is over for {mark}."
WARM_S: Final = 2.0
"""Connections that nobody uses are closed before it is counted what a process has left."""
SESSIONS: Final = 60
"""Seats at each service: enough for everybody, few enough to be used up by a service that hangs."""
START_S: Final = 5.0
REST_S: Final = 15.0


class Upstreams:
    """`async with`: the fakes are there inside. `complaints` is whole after `at_rest`."""

    def __init__(self, providers: Sequence[str], ports: Sequence[int]) -> None:
        """`providers` are names of the roster, in the order in which they are asked."""
        self.fakes: Mapping[str, Fake] = {
            LLM: OpenAiSpeech(port=ports[0]),
            **{name: made(name, Script(), port) for name, port in zip(providers, ports[1:], strict=False)},
        }
        if len(self.fakes) != len(providers) + 1:
            raise ValueError(f"at most {len(ports) - 1} different providers")
        self.fakes[LLM].reply = REPLY  # type: ignore[attr-defined]
        self.done: Counter[str] = Counter()
        """Illnesses by kind."""
        self.book = UpstreamBook()
        self.complaints: list[Complaint] = []
        self.healed_after_s: float | None = None
        """From the end of all illnesses until the first of each chain was asked again by everybody."""
        self._down: set[str] = set()

    async def __aenter__(self) -> Upstreams:
        for fake in self.fakes.values():
            await fake.start()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        for name, fake in self.fakes.items():
            if name not in self._down:
                await fake.close()

    # Configuration

    def chain(self, kind: str) -> list[str]:
        """The sections of ASR, TTS or LLM, in the order in which they are asked; of TTS without the own voice."""
        if kind == "LLM":
            return [LLM_SECTION]
        entries = (entry_of(name) for name in self.fakes if name != LLM)
        return [section for entry in entries for each, section, _ in entry.sections if each == kind]

    @property
    def firsts(self) -> list[str]:
        """Who is asked first, by the names that the metrics have."""
        return [f"{kind}.{self.chain(kind)[0]}" for kind in ("ASR", "TTS", "LLM") if self.chain(kind)]

    def config(self) -> str:
        own_voice = {"type": "sine", "ms_per_char": MS_PER_CHAR, "marks": True}
        return yaml.safe_dump(
            {
                "selected_module": {
                    "ASR": self.chain("ASR"),
                    "TTS": [*self.chain("TTS"), OWN_VOICE],
                    "LLM": LLM_SECTION,
                },
                "ASR": self._sections("ASR"),
                "TTS": self._sections("TTS") | {OWN_VOICE: own_voice},
                "LLM": {LLM_SECTION: self.fakes[LLM].llm_section()},  # type: ignore[attr-defined]
                # Nothing is spoken from memory: each segment asks.
                "cluster": {"asr": {"recognisers": 32}, "tts": {"cache_bytes": 0}},
            }
        )

    def _sections(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, fake in self.fakes.items():
            if name != LLM:
                found |= sections_of(name, fake).get(kind, {})
        for section in found.values():
            if kind == "TTS" and section["type"] != "edge":
                section |= {"warm_s": WARM_S, "max_sessions": SESSIONS}
        return found

    # Illnesses

    async def run(self, faults: Sequence[UpstreamFault]) -> None:
        """Each at its time from now; returns when all have passed."""
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._suffer(fault, began_s), name=f"upstream-{fault.upstream}-{fault.at_s}")

    async def _suffer(self, fault: UpstreamFault, began_s: float) -> None:
        await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
        self.done[fault.name] += 1
        if fault.illness is Illness.CLOSED:
            await self._be_closed(fault.upstream, fault.held_s)
            return
        fake = self.fakes[fault.upstream]
        fake.script = fault.script
        await asyncio.sleep(fault.held_s)
        fake.script = Script()

    async def _be_closed(self, name: str, held_s: float) -> None:
        self._down.add(name)
        await self.fakes[name].close()
        await asyncio.sleep(held_s)
        await self.fakes[name].start()
        self._down.discard(name)

    # Judgement

    def served(self) -> dict[str, int]:
        """Sessions that each has seen so far."""
        return {name: len(fake.sessions) for name, fake in self.fakes.items()}

    async def at_rest(self, now: float, within_s: float = REST_S) -> None:
        """All devices have gone: after a moment no session is open, and no connection is kept any more."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s and any(map(_holds, self.fakes.values())):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for name, fake in self.fakes.items():
            if fake.running:
                self.complain("upstream_session_left", name, now, f"{fake.running} of {len(fake.sessions)} sessions")
            elif name != LLM and _holds(fake):
                self.complain("upstream_connection_left", name, now, "")
            if getattr(fake, "overlaps", 0):
                self.complain("upstream_overlap", name, now, "a session before the last one's end on its connection")

    def complain(self, code: str, who: str, now: float, words: str) -> None:
        self.complaints.append(Complaint(code, who, round(now, 3), words))

    def to_json(self) -> dict[str, Any]:
        return {
            "upstream_faults": dict(self.done),
            "upstream_sessions": self.served(),
            **{f"upstream_{name}": dict(counts) for name, counts in self.book.to_json().items()},
            "healed_after_s": self.healed_after_s,
        }


def _holds(fake: Fake) -> bool:
    """The model's client keeps connections that it does not use, as HTTP allows."""
    is_http = isinstance(fake, OpenAiSpeech)
    return bool(fake.running or (not is_http and getattr(fake, "open_connections", 0)))
