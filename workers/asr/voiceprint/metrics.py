"""What an asr worker counts of voiceprints."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RESULTS = Counter("xz_voiceprint_results", "Utterances whose speaker was asked for, by what came of it", ["result"])
KNOWN = RESULTS.labels("known")
UNKNOWN = RESULTS.labels("unknown")
LATE = RESULTS.labels("late")
FAILED = RESULTS.labels("failed")
UNHEALTHY = RESULTS.labels("unhealthy")
DROPPED = RESULTS.labels("dropped")
HELD_SECONDS = Histogram(
    "xz_voiceprint_held_seconds",
    "How long a transcript waited for its speaker",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
)
HEALTHY = Gauge("xz_voiceprint_healthy", "1 while the server is known to be well")
