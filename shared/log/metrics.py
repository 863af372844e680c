"""Metrics of a process's own log."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LOG_DROPPED = Counter("xz_log_dropped_total", "Log lines that were not written: queue full, or the output failed")
LOG_QUEUED = Gauge("xz_log_queued_lines", "Log lines that wait to be written")
