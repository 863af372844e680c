"""Metrics of the device registry."""

from __future__ import annotations

from prometheus_client import Counter

REGISTRY_ERRORS = Counter(
    "xz_device_registry_errors_total", "Device lookups and visits that the file could not answer."
)
