"""Metrics of every worker, whatever its role. `pool` is that role."""

from __future__ import annotations

from prometheus_client import Counter

JOBS_ENDED = Counter(
    "xz_jobs_ended_total", "Streams a worker ended, by how (done, aborted, or the error's code)", ["pool", "code"]
)
JOB_SECOND_ENDS = Counter("xz_job_second_ends_total", "Attempts to end a stream that had ended already", ["pool"])
REJOINS = Counter("xz_worker_rejoins_total", "New identities taken towards a router", ["pool", "reason"])
LINK_REFUSED = Counter(
    "xz_worker_link_refused_total", "Handshakes over TCP that a router refused, or was not the right one for", ["pool"]
)
