"""Which fakes there are, by the name an operator calls them, and which sections of a configuration lead to them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bench.upstreams.fake import Fake
from bench.upstreams.script import Fault, Script


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    target: str
    """module:class; imported only when it is started, since some need much."""
    sections: tuple[tuple[str, str, str], ...]
    """(kind, section's name, the fake's method that makes it); no name: the kind is the section."""


ROSTER: Final = (
    Entry("aliyun_asr", "bench.upstreams.aliyun_asr:AliyunAsr", (("ASR", "AliyunStreamASR", "section"),)),
    Entry("doubao", "bench.upstreams.doubao:Doubao", (("ASR", "DoubaoStreamASR", "section"),)),
    Entry("fun_asr", "bench.upstreams.fun_asr:FunAsr", (("ASR", "FunASRServer", "section"),)),
    Entry("aliyun_tts", "bench.upstreams.aliyun_tts:AliyunTts", (("TTS", "AliyunStreamTTS", "section"),)),
    Entry("huoshan", "bench.upstreams.huoshan:Huoshan", (("TTS", "HuoshanDoubleStreamTTS", "section"),)),
    Entry("edge", "bench.upstreams.edge:Edge", (("TTS", "EdgeTTS", "section"),)),
    Entry(
        "openai",
        "bench.upstreams.openai_speech:OpenAiSpeech",
        (
            ("ASR", "OpenaiASR", "asr_section"),
            ("TTS", "OpenAITTS", "section"),
            ("LLM", "OpenAILLM", "llm_section"),
        ),
    ),
    Entry("voiceprint", "bench.upstreams.voiceprint:Voiceprint", (("voiceprint", "", "section"),)),
)
NAMES: Final = tuple(entry.name for entry in ROSTER)


def entry_of(name: str) -> Entry:
    """Raises KeyError."""
    return {entry.name: entry for entry in ROSTER}[name]


def made(name: str, script: Script, port: int) -> Fake:
    """Not started yet; port 0 = a free one."""
    module, _, kind = entry_of(name).target.partition(":")
    make: Callable[..., Fake] = getattr(importlib.import_module(module), kind)
    return make(script, port=port)


def sections_of(name: str, fake: Fake) -> dict[str, Any]:
    """What to write into a configuration file, by kind and name; the fake is running."""
    document: dict[str, Any] = {}
    for kind, section, method in entry_of(name).sections:
        content: dict[str, Any] = getattr(fake, method)()
        if section:
            document.setdefault(kind, {})[section] = content
        else:
            document[kind] = content
    return document


def merged(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """One document; kinds in the order in which they came."""
    whole: dict[str, Any] = {}
    for document in documents:
        for kind, content in document.items():
            whole.setdefault(kind, {}).update(content)
    return whole


def faults_of(texts: list[str]) -> dict[str, Fault]:
    """`huoshan:error@start*2` → the fault of huoshan. Raises ValueError."""
    faults = {}
    for text in texts:
        name, colon, what = text.partition(":")
        if not colon or name not in NAMES:
            raise ValueError(f"{text}: NAME:KIND@STAGE[*TIMES] is expected, NAME one of {', '.join(NAMES)}")
        try:
            faults[name] = Fault.parse(what)
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
    return faults
