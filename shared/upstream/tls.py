"""Whom we trust: one verifying context for everything that is asked over TLS."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=1)
def trust() -> ssl.SSLContext:
    """The system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR. Made once: reading them takes a while."""
    return ssl.create_default_context()


def prepare_trust(url: str) -> None:
    """For an engine that is made off the loop: the certificates are read now, if its address will need them."""
    if url.startswith(("https:", "wss:")):
        trust()
