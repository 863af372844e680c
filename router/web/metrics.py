"""Metrics of the web process."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

OTA_REQUESTS = Counter("xz_ota_requests_total", "Boot requests of devices, by what came of them.", ["outcome"])
OUTCOMES = ("granted", "waiting", "kept", "denied", "disabled", "error", "bad_request")
OTA_OUTCOMES = {outcome: OTA_REQUESTS.labels(outcome) for outcome in OUTCOMES}
OTA_BAD_BODIES = Counter("xz_ota_bad_bodies_total", "Boot requests whose body was no JSON object and was ignored.")
ACTIVATIONS = Counter("xz_activation_requests_total", "Activation polls of devices, by status code.", ["code"])
DOWNLOADS = Counter("xz_firmware_downloads_total", "Firmware downloads, by status code.", ["code"])
ADMIN_REFUSALS = Counter("xz_admin_refusals_total", "Requests to the operator's pages without the admin token.")
DISK_CALLS = Gauge("xz_web_disk_calls", "Calls that wait for the disk or are on it.")
REFUSALS = Counter("xz_web_refusals_total", "Requests refused, by status code.", ["code"])
REQUEST_ERRORS = Counter("xz_web_request_errors_total", "Requests that failed through a fault of this program.")
RECYCLED = Counter("xz_recycled_total", "Processes replaced because they were old or large.", ["program", "reason"])


class RecycledCounts:
    """Counted by `xiaozhi up`, which serves no metrics of its own."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def update(self, counts: Mapping[str, int]) -> None:
        """All since the start of the cluster, by "program/reason"."""
        for key, count in counts.items():
            program, _, reason = key.partition("/")
            RECYCLED.labels(program, reason).inc(max(0, count - self._known.get(key, 0)))
            self._known[key] = count
