"""What a session worker counts and measures. Labels are bounded: never a device, a session or a text."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LLM_FIRST_TOKEN = Histogram(
    "xz_llm_first_token_seconds",
    "From the request to the first text or tool call of the model",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
LLM_TURN = Histogram(
    "xz_llm_turn_seconds",
    "From the input to the end of the model's reply, tools included",
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60),
)
LLM_ERRORS = Counter("xz_llm_errors_total", "Failed requests to a model", ["code"])
TOOL_CALLS = Counter("xz_tool_calls_total", "Tool calls", ["outcome"])
TOOL_SECONDS = Histogram(
    "xz_tool_seconds", "From a tool call to its result", buckets=(0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
)
REPLIES = Counter("xz_replies_total", "Replies, by what gave them and how they ended", ["brain", "outcome"])
DIALOGUES = Gauge("xz_dialogues", "Dialogues kept, those of connected devices included")
STORE_LATE = Counter("xz_session_store_late_total", "Sessions that began without waiting longer for the store")
CLAIM_FAILURES = Counter("xz_session_claim_failures_total", "Sessions that could not claim their device")
SUPERSEDED = Counter("xz_sessions_superseded_total", "Sessions ended because their device was claimed elsewhere")
TURNS_DROPPED = Counter("xz_session_turns_dropped_total", "Turns that were over before their device could be claimed")
LOSS_POLL_FAILURES = Counter("xz_session_loss_poll_failures_total", "Times the store did not tell claims of others")
INBOX_OVERFLOWS = Counter("xz_session_inbox_overflows_total", "Sessions failed because their inbox was full")
BAD_EVENTS = Counter("xz_session_bad_events_total", "Events of a router that were not understood")
