"""Sets up the log of a process: structlog, console or JSON lines, through the one writer thread.

Rules: every line carries program and slot, and whatever is bound with `structlog.contextvars.bound_contextvars` or
`logger.bind` (session, device, generation, worker). Secrets and speech are masked at every level. Libraries log through
the same writer, from WARNING up whatever the level is, since their debug lines show what travels. Tracebacks have no
values of variables.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor

from shared.errors import ConfigError
from shared.log.redaction import mask_field, mask_text
from shared.log.writer import DescriptorSink, FileSink, LogWriter, Sink
from shared.settings import LogSettings

PINNED = (
    "websockets", "openai", "httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "zmq", "asyncio", "urllib3",
    "aiosqlite", "asyncpg", "sqlalchemy", "alembic",
)  # fmt: skip
"""Libraries whose debug lines would show tokens, speech or replies."""

_NOISE = {"websockets.server": ("opening handshake failed",)}
"""What port scanners and proxies' health checks cause; refused devices are counted by the router."""

_FIRST = ("timestamp", "level", "program", "slot", "logger", "event")
_STANDARD_ERROR = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

EventDict = MutableMapping[str, Any]

_open: list[LogWriter] = []
"""The process's writer, while it has one."""


def configure(program: str, slot: int, settings: LogSettings) -> LogWriter:
    """Start the writer and send structlog's and the standard library's logs to it; it is closed at exit.

    Raises ConfigError if the log directory cannot be used.
    """
    sink = _sink(program, slot, settings)
    render = _renderer(settings, is_terminal=settings.directory is None and os.isatty(_STANDARD_ERROR))
    stamp = _Stamp(program, slot)
    writer = LogWriter(sink, settings.queue_lines, lambda lost: _loss_line(lost, stamp, render))
    structlog.configure(
        processors=[*_common(stamp), render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level)),
        logger_factory=lambda *args: _Lines(writer, str(args[0]) if args else "root"),
        cache_logger_on_first_use=True,
    )
    _route_standard_library()
    writer.start()
    atexit.register(writer.close)
    _open[:] = [writer]
    return writer


def close(writer: LogWriter, deadline_s: float = 1.0) -> bool:
    """Write what is queued and give structlog and the standard library back as they were found."""
    atexit.unregister(writer.close)
    logging.captureWarnings(False)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Bridge)]:
        root.removeHandler(handler)
    structlog.reset_defaults()
    _open[:] = [other for other in _open if other is not writer]
    return writer.close(deadline_s)


def close_current() -> None:
    """Write what is queued, for a process that ends without Python's own clean-up."""
    for writer in _open:
        writer.close()


class _Lines:
    """What structlog's loggers write to; `name` is the module's."""

    def __init__(self, writer: LogWriter, name: str) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = self.msg = writer.put


class _Stamp:
    """Adds who speaks."""

    def __init__(self, program: str, slot: int) -> None:
        self._program = program
        self._slot = slot

    def __call__(self, logger: Any, _: str, event: EventDict) -> EventDict:
        event["program"] = self._program
        event["slot"] = self._slot
        event.setdefault("logger", getattr(logger, "name", "root"))
        return event


class _Bridge(logging.Handler):
    """Turns a record of the standard library into a structlog line."""

    def filter(self, record: logging.LogRecord) -> bool:
        # A library may set its own logger's level after us (openai does, by OPENAI_LOG), so levels alone do not hold.
        noise = _NOISE.get(record.name, ())
        return record.levelno >= logging.WARNING and not record.getMessage().startswith(noise or ("\0",))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            logger = structlog.get_logger(record.name)
            logger.log(min(record.levelno, logging.CRITICAL), record.getMessage(), exc_info=record.exc_info)
        except Exception:  # As logging.Handler demands: a log call must not raise into the caller.
            self.handleError(record)


def _sink(program: str, slot: int, settings: LogSettings) -> Sink:
    if settings.directory is None:
        return DescriptorSink(_STANDARD_ERROR)
    try:
        settings.directory.mkdir(parents=True, exist_ok=True)
        path = settings.directory / f"{program}-{slot}.log"
        path.touch()
    except OSError as error:
        raise ConfigError("log.log_dir", str(settings.directory), f"a writable directory ({error.strerror})") from None
    return FileSink(path, settings.file_max_bytes, settings.file_backups)


def _common(stamp: _Stamp) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamp,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _masked,
    ]


def _masked(_: Any, __: str, event: EventDict) -> EventDict:
    """Known fields first, every value fit to be written."""
    names = [name for name in _FIRST if name in event] + [name for name in event if name not in _FIRST]
    return {name: _shown(name, event[name]) for name in names}


def _shown(name: str, value: Any) -> Any:
    shown = mask_text(value) if name == "event" and isinstance(value, str) else mask_field(name, value)
    return _CONTROL.sub(_escaped, shown) if isinstance(shown, str) else shown


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def _renderer(settings: LogSettings, *, is_terminal: bool) -> Processor:
    if settings.format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=is_terminal, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )


def _loss_line(lost: int, stamp: _Stamp, render: Processor) -> str:
    event: EventDict = {"event": "log_lines_dropped", "count": lost}
    for processor in _common(stamp):
        event = processor(None, "warning", event)  # type: ignore[assignment]
    return str(render(None, "warning", event))


def _route_standard_library() -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Bridge())
    root.setLevel(logging.WARNING)
    for name in PINNED:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
