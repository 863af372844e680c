"""What a tts worker counts. Label values are bound once, here."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FIRST_FRAME = Histogram(
    "xz_tts_first_frame_seconds",
    "From OPEN to the first frame of a segment, waiting included",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10),
)
REALTIME_FACTOR = Histogram(
    "xz_tts_realtime_factor",
    "Compute time of a segment by its length; below 1 is faster than speech",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)
FRAMES = Counter("xz_tts_frames_total", "Frames made (cached ones are not)")
WASTED_FRAMES = Counter("xz_tts_wasted_frames_total", "Frames made and not sent, because their segment was aborted")
SEGMENTS = Counter("xz_tts_segments_total", "Segments by how they ended", ["outcome"])
ERRORS = Counter("xz_tts_errors_total", "Failed segments by code", ["code"])
CACHE_LOOKUPS = Counter("xz_tts_cache_lookups_total", "Segments found encoded, being made, or neither", ["result"])
CACHE_BYTES = Gauge("xz_tts_cache_bytes", "Bytes of encoded segments kept")
QUEUE_DEPTH = Gauge("xz_tts_queue_depth", "Segments that wait for a compute thread")
THREADS_BUSY = Gauge("xz_tts_threads_busy", "Compute threads at work")
THREADS_STUCK = Counter(
    "xz_tts_threads_stuck_total", "Compute calls that took longer than normal and were given a spare"
)
CREDIT_WAITS = Counter("xz_tts_credit_waits_total", "Times a segment had frames ready and no credit left")
FALLBACKS = Counter(
    "xz_tts_fallbacks_total", "Segments that were given to the next engine, by the one that had failed", ["engine"]
)
REMOTE_SEGMENTS = Gauge("xz_tts_remote_segments", "Segments that are being read from services outside")
CLOSES_LATE = Counter(
    "xz_tts_remote_closes_late_total", "Remote engines that did not let go of a cancelled segment within the bound"
)
STRAYS = Counter(
    "xz_tts_stray_messages_total",
    "Messages of another session that a service outside sent, and were dropped",
    ["engine"],
)

DONE = SEGMENTS.labels("done")
ABORTED = SEGMENTS.labels("aborted")
FAILED = SEGMENTS.labels("failed")
CACHE_HIT = CACHE_LOOKUPS.labels("hit")
CACHE_SHARED = CACHE_LOOKUPS.labels("shared")
CACHE_MISS = CACHE_LOOKUPS.labels("miss")
