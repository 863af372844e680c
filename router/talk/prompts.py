"""Canned prompts: sentences that must be heard when no tts worker can speak, pre-encoded as a device plays them.

The files in `router/talk/canned/` are made from the project's own voices by `python -m ops.make_prompts`. Each holds
one prompt: msgpack {"text": …, "frames": [Opus packets, 24 kHz mono 60 ms]} in `<name>.<language>.msgpack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import msgpack

SUFFIX = ".msgpack"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is said, for the screen, and its sound."""

    text: str
    frames: tuple[bytes, ...]


def load_prompts() -> Mapping[tuple[str, str], Prompt]:
    """All prompts by (name, language). Raises FileNotFoundError if the package was built without them."""
    prompts: dict[tuple[str, str], Prompt] = {}
    for file in resources.files("router.talk").joinpath("canned").iterdir():
        if file.name.endswith(SUFFIX):
            name, language = file.name.removesuffix(SUFFIX).split(".")
            prompts[name, language] = read_prompt(file.read_bytes())
    return prompts


def read_prompt(data: bytes) -> Prompt:
    body = msgpack.unpackb(data)
    return Prompt(body["text"], tuple(body["frames"]))


def write_prompt(prompt: Prompt) -> bytes:
    packed: bytes = msgpack.packb({"text": prompt.text, "frames": list(prompt.frames)})
    return packed
