"""Metrics of the web process."""

from __future__ import annotations

from prometheus_client import Counter

OTA_REQUESTS = Counter("xz_ota_requests_total", "Boot requests of devices, by what came of them.", ["outcome"])
OUTCOMES = ("granted", "waiting", "kept", "denied", "disabled", "error", "bad_request")
OTA_OUTCOMES = {outcome: OTA_REQUESTS.labels(outcome) for outcome in OUTCOMES}
OTA_BAD_BODIES = Counter("xz_ota_bad_bodies_total", "Boot requests whose body was no JSON object and was ignored.")
ACTIVATIONS = Counter("xz_activation_requests_total", "Activation polls of devices, by status code.", ["code"])
DOWNLOADS = Counter("xz_firmware_downloads_total", "Firmware downloads, by status code.", ["code"])
ADMIN_REFUSALS = Counter("xz_admin_refusals_total", "Requests to the operator's pages without the admin token.")
REQUEST_ERRORS = Counter("xz_web_request_errors_total", "Requests that failed through a fault of this program.")
