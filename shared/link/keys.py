"""The CURVE keys of a machine: files in data/keys, read by the link and written by `xiaozhi keys`.

```
keys/                 0700
  router.key          secret key of the routers       (a machine with routers)
  router.pub          their public key                (every machine)
  worker.key          secret key of this machine's workers (a machine whose workers use tcp://)
  allowed/NAME.pub    public key of the machine NAME, whose workers may join
  machines/NAME/      what NAME needs in its own data/keys
```

Each file holds one key, 40 characters of Z85. Secret keys are refused if others can read them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from shared.errors import ConfigError

DIRECTORY = "keys"
ROUTER_KEY, ROUTER_PUB, WORKER_KEY = "router.key", "router.pub", "worker.key"
ALLOWED, MACHINES = "allowed", "machines"
PUB = ".pub"
KEY_CHARS = 40
KEY_BYTES = 32

AllowList = dict[str, str]
"""Public key → name of the machine."""


@dataclass(frozen=True, slots=True)
class RouterKeys:
    """What a router needs to take workers over TCP."""

    secret: bytes = field(repr=False)
    allowed: Path
    """Directory of the machines' public keys."""


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """What a worker needs to join a router over TCP."""

    public: bytes
    secret: bytes = field(repr=False)
    router: bytes
    """Public key of the routers: nobody else is believed to be one."""


def keys_dir(data_dir: Path) -> Path:
    return data_dir / DIRECTORY


def load_router_keys(data_dir: Path) -> RouterKeys:
    """Raises ConfigError that says how to make them."""
    directory = keys_dir(data_dir)
    remedy = "the routers' key for tcp:// links: make it with `xiaozhi keys init`"
    return RouterKeys(read_secret(directory / ROUTER_KEY, remedy), directory / ALLOWED)


def load_worker_keys(data_dir: Path) -> WorkerKeys:
    """Raises ConfigError that says how to make them."""
    directory = keys_dir(data_dir)
    remedy = "this machine's keys for tcp:// links: make them with `xiaozhi keys add NAME` where the routers are"
    secret = read_secret(directory / WORKER_KEY, remedy)
    return WorkerKeys(zmq.curve_public(secret), secret, _read(directory / ROUTER_PUB, remedy).encode())


def read_secret(path: Path, remedy: str) -> bytes:
    key = _read(path, remedy)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(str(path), "a file that others can read", "mode 0600: chmod 600 it")
    return key.encode()


def read_allowed(directory: Path) -> tuple[AllowList, list[str]]:
    """Who may join, and the files that hold no key. A directory that is not there allows nobody."""
    allowed: AllowList = {}
    bad = []
    for path in sorted(directory.glob(f"*{PUB}")):
        try:
            allowed[_read(path, "a public key")] = path.stem
        except ConfigError:
            bad.append(path.name)
    return allowed, bad


def signature_of(directory: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a key is added, replaced or taken away."""
    try:
        with os.scandir(directory) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(PUB)]
    except OSError:
        return ()
    return tuple(sorted((name, found.st_mtime_ns, found.st_ino) for name, found in stats))


def is_key(text: str) -> bool:
    try:
        return len(text) == KEY_CHARS and len(z85.decode(text.encode("ascii"))) == KEY_BYTES
    except (ValueError, KeyError, UnicodeEncodeError):
        return False


def make_pair() -> tuple[str, str]:
    """Public and secret key."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _read(path: Path, remedy: str) -> str:
    try:
        key = path.read_text("ascii").strip()
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file", remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(str(path), reason, "a key file that can be read") from None
    if not is_key(key):
        raise ConfigError(str(path), "something else", f"a key of {KEY_CHARS} characters") from None
    return key
