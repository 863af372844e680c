"""Metrics of what is asked outside. The label `upstream` is the section's name, such as "TTS.EdgeTTS"."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CONNECTS = Counter("xz_upstream_connects_total", "Connections opened", ["upstream"])
RECONNECTS = Counter("xz_upstream_reconnects_total", "Kept connections found closed by the other side", ["upstream"])
REUSES = Counter("xz_upstream_reuses_total", "Requests that went over a kept connection", ["upstream"])
KEPT = Gauge("xz_upstream_connections_kept", "Connections that wait for the next request", ["upstream"])
REQUESTS = Counter("xz_upstream_requests_total", "Requests that were let in", ["upstream"])
RETRIES = Counter("xz_upstream_retries_total", "Second attempts", ["upstream"])
ERRORS = Counter(
    "xz_upstream_errors_total",
    "Requests that failed, by our code and the provider's own",
    ["upstream", "code", "reason"],
)
CANCELS = Counter("xz_upstream_cancels_total", "Requests that were cancelled, mostly by an interruption", ["upstream"])
FIRST_BYTE = Histogram(
    "xz_upstream_first_byte_seconds",
    "From a request's seat to the first sign of its result",
    ["upstream"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30),
)
BREAKER_STATE = Gauge("xz_upstream_breaker_state", "0 closed, 1 half open, 2 open", ["upstream"])
IN_USE = Gauge("xz_upstream_in_use", "Requests that have a seat", ["upstream"])
QUOTA = Gauge("xz_upstream_quota", "Seats of this process, 0 = any number", ["upstream"])
WAITING = Gauge("xz_upstream_waiting", "Requests that wait for a seat", ["upstream"])
TOKENS = Counter("xz_upstream_tokens_total", "Tokens asked for, by outcome", ["upstream", "outcome"])
