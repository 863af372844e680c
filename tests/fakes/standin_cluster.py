"""`xiaozhi up` with stand-in programs: real supervisord, signals, locks and drains, but processes that start at once.

    python standin_cluster.py DATA_DIR RUN_DIR CONF NAME... [--drain S]

Each NAME is one slot, e.g. router_00.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from ops.cluster.hold import hold, signals
from ops.cluster.plan import Plan, plan_of
from ops.process import ProcessName
from ops.terminal import Terminal
from ops.up import refuse
from shared.errors import XiaozhiError
from shared.settings import ClusterSettings

HEAD = """
[unix_http_server]
file=%(ENV_XZ_RUN_DIR)s/supervisor.sock
[supervisord]
nodaemon=true
silent=true
pidfile=%(ENV_XZ_RUN_DIR)s/supervisord.pid
logfile=%(ENV_XZ_LOG_DIR)s/supervisord.log
childlogdir=%(ENV_XZ_LOG_DIR)s
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[program:{name}]
command=python {file} {kind}
process_name=%(program_name)s_%(process_num)02d
numprocs=4
priority={priority}
autostart=false
autorestart=true
startsecs=1
startretries=1
stopwaitsecs=%(ENV_XZ_STOP_WAIT_S)s
killasgroup=true
redirect_stderr=true
stdout_logfile=%(ENV_XZ_LOG_DIR)s/%(program_name)s_%(process_num)02d.log
"""


def conf_of(kinds: dict[str, str]) -> str:
    """A supervisord configuration in which each program is a stand-in of its kind."""
    file = Path(__file__).with_name("standin.py")
    programs = (
        PROGRAM.format(name=name, kind=kind, file=f'"{file}"', priority=400 if name == "router" else 200)
        for name, kind in kinds.items()
    )
    return HEAD + "".join(programs)


def missing_of(plan: Plan) -> str | None:
    """The first process that has not said yet that it is ready."""
    return next((str(name) for name in plan.names if not (plan.data_dir / f"{name}.ready").exists()), None)


def up(arguments: argparse.Namespace) -> int:
    settings = ClusterSettings(data_dir=arguments.data_dir, run_dir=arguments.run_dir)
    plan = replace(
        plan_of(settings, os.environ, arguments.drain),
        conf=arguments.conf,
        names=tuple(map(ProcessName.parse, arguments.names)),
    )
    with signals.blocked(), Terminal() as terminal:
        try:
            return hold(plan, terminal, lambda: missing_of(plan), lambda _: terminal.line("ready"))
        except XiaozhiError as error:
            return refuse(terminal, [error])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("conf", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--drain", type=float, default=8.0)
    return up(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
