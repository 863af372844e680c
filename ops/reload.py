"""`xiaozhi reload`: check the configuration file whole, agree on it under a new epoch, tell the running processes.

Sessions take their settings over between two turns, routers theirs at a device's next connection. What a process reads
only when it starts is listed, and with --rolling its role is restarted, one slot at a time. A file with a mistake
changes nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

from ops.change.agreed import settings_now, settings_of, settings_written, user_file
from ops.change.changes import scaling, targets_of
from ops.change.course import Unit
from ops.change.observing import observe
from ops.change.operating import (
    EXIT_OK,
    EXIT_REFUSED,
    POLL_S,
    Site,
    add_limits,
    exit_code_of,
    follow,
    limits_of,
    operate,
)
from ops.change.sight import Sight
from ops.cluster import signals
from ops.process import ProcessName
from ops.restart import renew
from shared.config.epoch import store_epoch
from shared.config.preflight import config_problems
from shared.config.reach import COUNTS, FIXED, PROGRAMS, changed, key_of, waits_for_restart
from shared.errors import ConfigError
from shared.settings import Settings

TOLD_S = 15.0
"""How long processes may take to say that they run the new epoch."""
_ROLE_OF = {"routers": "router"}


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("reload", help="apply a changed configuration file")
    parser.add_argument("--rolling", action="store_true", help="also restart, one at a time, what has to be restarted")
    add_limits(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return operate("reload --rolling" if args.rolling else "reload", args.wait, partial(reload, args))


def reload(args: argparse.Namespace, site: Site) -> int:
    run_dir, data_dir = site.running.run_dir, site.running.data_dir
    try:
        content, old = user_file(data_dir), settings_now(run_dir)
        new, warnings = settings_written(run_dir)
    except ConfigError as error:
        site.terminal.line("nothing was changed:")
        for problem in config_problems(error):
            site.terminal.line(f"  {problem}")
        return EXIT_REFUSED
    if user_file(data_dir) != content:
        site.terminal.line("nothing was changed: the file is being written; try again")
        return EXIT_REFUSED
    for warning in warnings:
        site.terminal.line(f"warning: {warning}")
    paths = changed(old, new)
    epoch = store_epoch(run_dir, content)
    site.terminal.line(f"epoch {epoch}: {', '.join(map(key_of, paths)) or 'no setting has changed'}")
    return _apply(args, site, paths, new, epoch)


def _apply(args: argparse.Namespace, site: Site, paths: list[str], new: Settings, epoch: int) -> int:
    waiting = _waiting(site, new)
    _tell_processes(site, {program for program in PROGRAMS if program not in waiting}, epoch)
    for path in sorted(FIXED & set(paths)):
        site.terminal.line(f"  {key_of(path)}: fixed while the cluster runs; `xiaozhi down`, then start it again")
    counts = [path for path in paths if path.startswith(COUNTS)]
    if args.rolling:
        return _scale(args, site, counts, new) or _restart(args, site, waiting, epoch)
    for path in counts:
        site.terminal.line(f"  {key_of(path)}: `xiaozhi scale {_role_of(path)} {_count_of(path, new)}`")
    for program, late in waiting.items():
        keys = ", ".join(map(key_of, late))
        site.terminal.line(f"  {keys}: `xiaozhi restart --rolling {program}`, or `xiaozhi reload --rolling`")
    return EXIT_OK


def _waiting(site: Site, new: Settings) -> dict[str, list[str]]:
    """Program → settings that some process of it has missed since its start, by this reload or by one before."""
    sight, run_dir = observe(site.supervisor, site.running.run_dir), site.running.run_dir
    missed: dict[str, list[str]] = {}
    for name in site.running.wanted():
        told = sight[name].told
        old = settings_of(run_dir, told.epoch) if told else None
        paths = waits_for_restart(name.program, changed(old, new)) if old else []
        missed[name.program] = sorted({*missed.get(name.program, ()), *paths})
    return {program: missed[program] for program in PROGRAMS if missed.get(program)}


def _tell_processes(site: Site, programs: Collection[str], epoch: int) -> None:
    """SIGHUP to everything; wait until those who can take it all over say so."""
    told: set[int] = set()
    deadline_s = time.monotonic() + TOLD_S
    while late := _signal(site, observe(site.supervisor, site.running.run_dir), programs, epoch, told):
        if time.monotonic() >= deadline_s:
            site.terminal.end_progress()
            site.terminal.line(f"  not heard of with epoch {epoch}: {_names(late)}")
            return
        site.terminal.progress(f"telling {_names(late)}")
        if signals.wait(POLL_S) is not None:
            raise KeyboardInterrupt
    site.terminal.end_progress()


def _signal(site: Site, sight: Sight, programs: Collection[str], epoch: int, told: set[int]) -> list[ProcessName]:
    """Tell every life once; who is not there yet.

    Before it has joined a life would die of the signal: it reads the new epoch by itself, or is told later.
    """
    late = []
    for name in sorted(site.running.wanted(), key=str):
        seen = sight[name]
        if seen.told is None or seen.told.epoch >= epoch:
            continue
        if seen.info.pid not in told:
            told.add(seen.info.pid)
            site.supervisor.signal(name, "HUP")
        if name.program in programs:
            late.append(name)
    return late


def _scale(args: argparse.Namespace, site: Site, counts: Iterable[str], new: Settings) -> int:
    units: list[Unit] = []
    for path in counts:
        units += scaling(_role_of(path), _count_of(path, new), site.running.wanted(), site.slots())
    return exit_code_of(follow(site, units, limits_of(args))) if units else EXIT_OK


def _restart(args: argparse.Namespace, site: Site, waiting: Collection[str], epoch: int) -> int:
    targets = targets_of(list(waiting), site.running.wanted(), site.slots()) if waiting else ()
    return renew(site, targets, args, epoch) if targets else EXIT_OK


def _role_of(path: str) -> str:
    name = path.removeprefix(COUNTS)
    return _ROLE_OF.get(name, name)


def _count_of(path: str, settings: Settings) -> int:
    return int(getattr(settings.cluster.counts, path.removeprefix(COUNTS)))


def _names(names: Sequence[ProcessName]) -> str:
    return ", ".join(map(str, names))
