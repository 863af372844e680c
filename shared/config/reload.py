"""What a running process does with SIGHUP: look which epoch the cluster has agreed on, and take over what it can."""

from __future__ import annotations

import os
from collections.abc import Mapping

import structlog

from shared.config.load import load
from shared.config.reach import changed, key_of, taken_over, waits_for_restart
from shared.errors import ConfigError
from shared.settings import Settings

log = structlog.get_logger(__name__)


def reloaded(program: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings to go on with; those of before if the new ones cannot be read. A few milliseconds."""
    try:
        new = load(environ)
    except ConfigError as error:
        # Checked before it was stored, so this is another version of the program: its restart will tell.
        log.warning("reload_refused", code=error.code)
        return settings
    waiting = [key_of(path) for path in waits_for_restart(program, changed(settings, new))]
    log.info("reloaded", epoch=new.epoch, waits_for_restart=waiting)
    return taken_over(program, settings, new)
