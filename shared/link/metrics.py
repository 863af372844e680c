"""Metrics of the link that both ends count. `pool` is the role of the worker end."""

from __future__ import annotations

from prometheus_client import Counter

LINK_MESSAGES = Counter(
    "xz_link_messages_total", "Messages on the link, by direction seen from here", ["pool", "direction"]
)
LINK_SEND_FAILURES = Counter(
    "xz_link_send_failures_total", "Sends that the socket refused (full, unreachable)", ["pool", "error"]
)
LINK_DROPPED = Counter("xz_link_dropped_total", "Received messages that were not acted on", ["pool", "reason"])
LINK_UNKNOWN_KIND = Counter("xz_link_unknown_kind_total", "Messages of a kind this version does not know", ["pool"])
