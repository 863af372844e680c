"""Where the cluster of this machine answers devices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from shared.config.load import load
from shared.errors import ConfigError
from shared.settings import ClusterSettings


def ota_url(host: str = "127.0.0.1", environ: Mapping[str, str] = os.environ) -> str:
    """The OTA address on `host`, with this machine's port. Raises ConfigError."""
    return f"http://{host}:{_http_port(environ)}/xiaozhi/ota/"


def _http_port(environ: Mapping[str, str]) -> int:
    """Loading the configuration creates a missing key file, so only where a cluster has its data already."""
    text = environ.get("XZ_HTTP_PORT", "")
    if text:
        if not text.isdecimal():
            raise ConfigError("XZ_HTTP_PORT", text, "a port number")
        return int(text)
    if Path(environ.get("XZ_DATA_DIR") or "data").expanduser().is_dir():
        return load(environ).cluster.http_port
    return ClusterSettings().http_port
