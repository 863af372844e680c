"""What decides in the session worker does no I/O and reads no clock."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import workers.session

pytestmark = pytest.mark.unit

ROOT = Path(workers.session.__path__[0])
PURE = [
    *("turn", "segmentation", "speech_text", "emotion", "dialogue", "mcp", "iot", "routing", "language", "prompt"),
    *("recent", "records", "llm/reasoning", "llm/tool_calls", "llm/chunks", "llm/endpoints"),
    *("brain/grammar", "brain/spoken"),
]
FORBIDDEN = {"asyncio", "zmq", "websockets", "time", "random", "aiohttp", "openai", "threading"}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_no_io(name: str) -> None:
    """Events come in and effects go out; time and chance are arguments."""
    tree = ast.parse((ROOT / f"{name}.py").read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported & FORBIDDEN == set()
