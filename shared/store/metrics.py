"""What the store counts and measures. Labels are bounded: never a device, a session or a text."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

CLAIM_SECONDS = Histogram("xz_store_claim_seconds", "From asking for a device to owning it", buckets=_SECONDS)
COMMIT_SECONDS = Histogram("xz_store_commit_seconds", "One commit's transaction, failed ones too", buckets=_SECONDS)

COMMITS = Counter("xz_store_commits_total", "Commits, by how they ended", ["outcome"])
COMMIT_RETRIES = Counter("xz_store_commit_retries_total", "Commits that failed and are tried again")
COMMITS_MERGED = Counter("xz_store_commits_merged_total", "Commits that joined a waiting one of their device")
QUEUED_COMMITS = Gauge("xz_store_queued_commits", "Commits that wait for the store")
QUEUED_BYTES = Gauge("xz_store_queued_bytes", "Text and sound of the commits that wait, roughly")
OLDEST_COMMIT_SECONDS = Gauge("xz_store_oldest_commit_seconds", "Age of the oldest commit that waits")

OUTBOX_DELIVERED = Counter("xz_outbox_delivered_total", "Parcels that arrived")
OUTBOX_RETRIED = Counter("xz_outbox_retried_total", "Deliveries that failed and are tried again")
OUTBOX_DEAD = Counter("xz_outbox_dead_total", "Parcels given up after too many attempts")
OUTBOX_ADOPTED = Counter("xz_outbox_adopted_total", "Leases that ended without a word and went to another holder")
OUTBOX_WAITING = Gauge("xz_outbox_waiting", "Parcels that wait, as the upkeep last saw them")
OUTBOX_OLDEST_SECONDS = Gauge("xz_outbox_oldest_seconds", "Age of the oldest parcel that waits, likewise")

SWEPT = Counter("xz_store_swept_total", "Rows removed because they were too old or too many", ["table"])
STORE_UP = Gauge("xz_store_up", "1 if the last thing the upkeep wanted of the store worked")
