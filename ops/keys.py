"""`xiaozhi keys`: who may join the routers over tcp:// from another machine.

It writes data/keys and prints what has to be copied where, never a secret. Running routers see the change within two
seconds. Keys appear whole, by rename, readable by this user only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import zmq

from shared.config.load import load
from shared.errors import ConfigError, XiaozhiError
from shared.link.keys import (
    ALLOWED,
    MACHINES,
    PUB,
    ROUTER_KEY,
    ROUTER_PUB,
    WORKER_KEY,
    keys_dir,
    load_router_keys,
    make_pair,
    read_allowed,
    read_secret,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PRIVATE_DIRECTORY = 0o700


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("keys", help="let workers of other machines in, or not")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    parser.set_defaults(run=run)
    actions.add_parser("init", help="make the routers' key, once")
    actions.add_parser("list", help="machines whose workers may join")
    for action, what in (("add", "make a machine's key and let it in"), ("revoke", "let a machine in no more")):
        actions.add_parser(action, help=what).add_argument("name", metavar="NAME", type=machine_name)


def machine_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("letters, digits, dots, dashes and underscores, 64 at most")
    return text


def run(args: argparse.Namespace) -> int:
    try:
        ring = KeyRing(load().cluster.data_dir)
        for line in act(ring, args.action, getattr(args, "name", "")):
            print(line)
    except XiaozhiError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def act(ring: KeyRing, action: str, name: str) -> list[str]:
    """What to print. Raises ConfigError."""
    match action:
        case "init":
            return ring.init()
        case "add":
            return ring.add(name)
        case "revoke":
            return ring.revoke(name)
        case _:
            return ring.names() or ["no machine may join yet: xiaozhi keys add NAME"]


class KeyRing:
    """The keys directory of a machine with routers."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.directory = keys_dir(data_dir)

    def init(self) -> list[str]:
        """The routers' key. Made once: a new one would lock all machines out."""
        path = self.directory / ROUTER_KEY
        if path.exists():
            load_router_keys(self._data_dir)
            return [f"the routers' key is there: {path}"]
        public, secret = make_pair()
        write_key(path, secret)
        write_key(self.directory / ROUTER_PUB, public)
        private_directory(self.directory / ALLOWED)
        return [
            f"made the routers' key: {path}",
            "Next:",
            "  xiaozhi keys add NAME           for each machine with workers",
            "  XZ_LINK_BIND=tcp://0.0.0.0:5600 for the routers of this machine, then restart them",
            f"More machines with routers: copy {path}, {ROUTER_PUB} and {ALLOWED}/ to their data/keys, and keep",
            f"{ALLOWED}/ the same on all of them.",
        ]

    def add(self, name: str) -> list[str]:
        """A pair for one machine: its public key is on the list at once, its secret waits to be copied."""
        load_router_keys(self._data_dir)
        allowed = self.directory / ALLOWED / f"{name}{PUB}"
        if allowed.exists():
            raise ConfigError("xiaozhi keys add", name, "a new name: this machine has a key (revoke it first)")
        public, secret = make_pair()
        parcel = self.directory / MACHINES / name
        write_key(parcel / WORKER_KEY, secret)
        write_key(parcel / ROUTER_PUB, self._router_public())
        write_key(allowed, public)
        return [
            f"{name} may join. Copy to its data/keys, whole and with its modes:",
            f"  {parcel}/",
            f"  for instance: rsync -a {parcel}/ {name}:xiaozhi/data/keys/",
            f"Then delete {parcel} here: {WORKER_KEY} is needed on {name} only.",
            "Its workers find the routers by XZ_ROUTER_ENDPOINTS=tcp://THIS-MACHINE:5600",
        ]

    def revoke(self, name: str) -> list[str]:
        path = self.directory / ALLOWED / f"{name}{PUB}"
        try:
            path.unlink()
        except FileNotFoundError:
            raise ConfigError("xiaozhi keys revoke", name, "a machine of `xiaozhi keys list`") from None
        shutil.rmtree(self.directory / MACHINES / name, ignore_errors=True)
        return [f"{name} may join no more; its workers are let go within two seconds. Do the same on other routers."]

    def names(self) -> list[str]:
        load_router_keys(self._data_dir)
        allowed, bad = read_allowed(self.directory / ALLOWED)
        return sorted(allowed.values()) + [f"{file}: holds no key" for file in bad]

    def _router_public(self) -> str:
        # From the secret: the two can never be out of step.
        secret = read_secret(self.directory / ROUTER_KEY, "the routers' key: xiaozhi keys init")
        return zmq.curve_public(secret).decode()


def private_directory(path: Path) -> Path:
    """Mode 0700, and so all that have to be made above it."""
    if not path.is_dir():
        private_directory(path.parent)
        path.mkdir(mode=PRIVATE_DIRECTORY)
    return path


def write_key(path: Path, key: str) -> None:
    """Raises ConfigError if it cannot be written."""
    try:
        private_directory(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise ConfigError(str(path), error.strerror, "a place that can be written") from error
