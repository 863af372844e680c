"""The key that signs device tokens, kept in a file when none is configured.

All processes of a cluster start at once and must end up with one key: whoever holds the lock on the data directory
looks first and creates only what is missing. The file appears whole, by rename, readable by its owner only.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import ConfigError

FILE_NAME = ".auth_key"
_BYTES = 32


def read_or_create(data_dir: Path) -> str:
    """The key in `data_dir`, created if there is none. Raises ConfigError."""
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return _read(path) if path.exists() else _create(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        expected = "a key file that can be read and created, or server.auth_key in the configuration"
        raise ConfigError(str(path), reason, expected) from None


def is_open_to_others(data_dir: Path) -> bool:
    """Whether other users may read the key file."""
    try:
        return bool(stat.S_IMODE((data_dir / FILE_NAME).stat().st_mode) & 0o077)
    except OSError:
        return False


def _read(path: Path) -> str:
    key = path.read_text("ascii").strip()
    if not key:
        raise ConfigError(str(path), "an empty file", "a key; delete the file and a new one is made")
    return key


def _create(path: Path) -> str:
    with _locked(path.parent):
        if path.exists():
            return _read(path)
        key = secrets.token_urlsafe(_BYTES)
        _write_whole(path, key + "\n")
        return key


def _write_whole(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f"{FILE_NAME}.", dir=path.parent)  # mkstemp gives mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
