"""The log of a whole process, run as one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ConfigError
from shared.log import setup as log
from shared.settings import LogSettings

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 60

SECRET = "Zq7wPx9LmN3"
SENTENCE = "the treasure lies under the old oak"

PREAMBLE = """
import logging, os, sys, structlog
from shared.log import setup as log
from shared.settings import LogSettings
"""


def started(code: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PREAMBLE + code]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def logged(code: str) -> str:
    """Standard error of a process that runs `code`."""
    process = started(code)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    return errors


def lines_of(code: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(code).splitlines()]


def test_a_pipe_that_nobody_reads_holds_up_nobody() -> None:
    """20,000 lines into a full pipe: the program goes on, drops what the queue does not hold, and exits."""
    process = started(
        """
writer = log.configure("router", 0, LogSettings(queue_lines=500, format="json"))
logger = structlog.get_logger("test")
for number in range(20_000):
    logger.info("line", number=number, padding="x" * 100)
print(writer.dropped, flush=True)
"""
    )
    try:
        assert process.wait(TIMEOUT_S) == 0
        assert process.stdout is not None
        dropped = int(process.stdout.read())
        written = process.stderr.read().count("\n") if process.stderr else 0
    finally:
        process.kill()
        process.communicate()
    assert dropped > 15_000
    assert dropped + written <= 20_000


def test_lines_are_flushed_at_exit() -> None:
    """A process that ends right after a line has written it."""
    lines = lines_of(
        """
log.configure("asr", 3, LogSettings(format="json"))
for number in range(1000):
    structlog.get_logger("test").info("line", number=number)
"""
    )
    assert [line["number"] for line in lines] == list(range(1000))


def test_a_line_says_who_speaks_and_what_is_bound() -> None:
    """Program, slot and module always; session, device, generation and worker where they are bound."""
    (line,) = lines_of(
        """
log.configure("asr", 3, LogSettings(format="json"))
with structlog.contextvars.bound_contextvars(session="s1", device="aa:bb"):
    structlog.get_logger("router.talk.ear").bind(generation=7, worker="asr-0.1").info("turn_ended", asr_ms=12)
"""
    )
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "program": "asr", "slot": 3, "logger": "router.talk.ear", "event": "turn_ended", "asr_ms": 12,
        "session": "s1", "device": "aa:bb", "generation": 7, "worker": "asr-0.1",
    }  # fmt: skip


def test_the_level_holds() -> None:
    """What is below the level is not written."""
    text = logged(
        """
log.configure("asr", 0, LogSettings(level="WARNING"))
structlog.get_logger("test").info("quiet")
structlog.get_logger("test").warning("loud")
"""
    )
    assert "loud" in text
    assert "quiet" not in text


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_debug_run_shows_no_secret_and_no_sentence(form: str) -> None:
    """Fields, texts, tracebacks and libraries at DEBUG, all that can carry one."""
    text = logged(
        f"""
SECRET, SENTENCE = {SECRET!r}, {SENTENCE!r}
log.configure("session", 0, LogSettings(level="DEBUG", format={form!r}))
"""
        + """
logger = structlog.get_logger("test")
logger.debug("fields", token=SECRET, Authorization="Bearer " + SECRET, text=SENTENCE, transcript=SENTENCE)
logger.debug("nested", body={"api_key": SECRET, "messages": [{"role": "user", "content": SENTENCE}]})
logger.debug("url", url="wss://host/x?token=" + SECRET, other="https://u:" + SECRET + "@host/")
logger.debug("text with Bearer " + SECRET)
logger.debug("bytes", packet=SENTENCE.encode())

def fail(local):
    from shared.link.messages import Final
    Final.from_map({"position": local, "text": [local]})

try:
    fail(SENTENCE + SECRET)
except Exception:
    logger.exception("failed")

os.environ["OPENAI_LOG"] = "debug"
import aiohttp, openai, websockets
for name in ("websockets.server", "websockets.client", "openai", "httpx", "aiohttp.access", "zmq", "asyncio", "other"):
    library = logging.getLogger(name)
    library.setLevel(logging.DEBUG)
    library.debug("> %s", SENTENCE)
    library.info("authorization: Bearer %s", SECRET)
    library.warning("closing, token=%s", SECRET)
logging.getLogger("end").warning("done")
"""
    )
    assert "done" in text
    assert "failed" in text
    assert "closing" in text
    assert SECRET not in text
    assert "treasure" not in text
    assert "old oak" not in text


def test_libraries_write_through_the_same_pipe() -> None:
    """The standard library's loggers and warnings become lines like all others; handshake noise is left out."""
    lines = lines_of(
        """
log.configure("router", 1, LogSettings(format="json"))
logging.getLogger("websockets.server").error("opening handshake failed")
logging.getLogger("websockets.server").error("connection handler failed")
import warnings
warnings.warn("old API", stacklevel=1)
"""
    )
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("websockets.server", "error"),
        ("py.warnings", "warning"),
    ]
    assert all(line["program"] == "router" and line["slot"] == 1 for line in lines)


def test_a_value_cannot_forge_a_line_or_reach_the_terminal() -> None:
    """Line breaks and escape sequences of a device's strings are written escaped."""
    text = logged(
        """
log.configure("router", 0, LogSettings())
structlog.get_logger("test").info("hello", device="x\\n2026-01-01 forged\\x1b[31m")
"""
    )
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_a_directory_gets_one_file_per_process(tmp_path: Path) -> None:
    """Nothing is written to standard error then."""
    text = logged(
        f"""
from pathlib import Path
log.configure("tts", 2, LogSettings(format="json", directory=Path({str(tmp_path / "logs")!r})))
structlog.get_logger("test").info("hello")
"""
    )
    assert text == ""
    assert json.loads((tmp_path / "logs" / "tts-2.log").read_text())["event"] == "hello"


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Named by its key before anything starts."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        log.configure("tts", 0, LogSettings(directory=tmp_path / "file"))
    assert caught.value.key == "log.log_dir"
