"""Metrics of the router's end of the link: pools, streams, deaths."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

POOL_WORKERS = Gauge("xz_pool_workers", "Workers by what they can take", ["pool", "state"])
POOL_CAPACITY = Gauge("xz_pool_capacity", "Streams that all workers together can take", ["pool"])
POOL_ACTIVE = Gauge("xz_pool_active", "Streams that the workers report as open", ["pool"])
POOL_RESERVED = Gauge("xz_pool_reserved", "Streams opened by us that no BEAT counts yet", ["pool"])
POOL_REJECTS = Counter(
    "xz_pool_rejects_total", "OPENs that a worker refused, and BEATs that we did", ["pool", "reason"]
)
POOL_EXHAUSTED = Counter("xz_pool_exhausted_total", "Streams that nobody could take in time", ["pool", "reason"])

LINK_WAITING = Gauge("xz_link_control_waiting", "Control messages that a worker has not taken yet", ["pool"])
STREAMS = Gauge("xz_streams", "Live streams", ["pool"])
STREAMS_WAITING = Gauge("xz_streams_waiting", "Streams that wait for a worker", ["pool"])
STREAMS_OPENED = Counter("xz_streams_opened_total", "OPENs sent", ["pool"])
STREAMS_ENDED = Counter(
    "xz_streams_ended_total", "OPENs answered by their worker (done, error) or gone with it (lost)", ["pool", "end"]
)
STREAM_SECOND_ENDS = Counter("xz_stream_second_ends_total", "DONEs and ERRORs for what had ended already", ["pool"])
STREAMS_POISONED = Counter("xz_streams_poisoned_total", "Streams given up that were young at two deaths", ["pool"])
STREAM_FAILURES = Counter("xz_stream_failures_total", "Streams that ended without DONE", ["pool", "code"])

WORKER_DEATHS = Counter("xz_worker_deaths_total", "Workers lost unplanned", ["pool", "cause"])
REPINS_HELD = Counter("xz_repins_held_total", "Sessions that waited for their place in the budget after a worker's end")
OWNER_ERRORS = Counter("xz_stream_owner_errors_total", "Exceptions of a stream's owner", ["pool"])
LINK_RTT = Histogram(
    "xz_link_rtt_seconds",
    "From PING to the BEAT that answers it",
    ["pool"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1),
)
LINK_AUTH_REFUSED = Counter(
    "xz_link_auth_refused_total", "Connections to a router's tcp:// port that were not let in", ["reason"]
)
LINK_PROTO_REFUSED = Counter(
    "xz_link_proto_refused_total", "BEATs of workers whose version of the link is too far from ours", ["pool"]
)
