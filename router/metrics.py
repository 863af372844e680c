"""The router's metrics. Cores name them in Count and Observe effects; labels are few and fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

CONNECTIONS = Gauge("xz_connections", "Open device connections.")
CONNECTIONS_TOTAL = Counter("xz_connections_accepted_total", "Device connections accepted.")
CONNECTION_REJECTS = Counter("xz_connection_rejects_total", "Refused before the upgrade.", ["reason"])
ACCEPTING = Gauge("xz_accepting", "1 while this router takes new connections.")
ACCEPT_PAUSES = Counter("xz_accept_pauses_total", "Times this router stopped accepting for a moment.", ["reason"])
HANDSHAKES_UNFINISHED = Counter(
    "xz_handshakes_unfinished_total", "Connections that ended before they had sent a request that could be answered."
)
CONNECTION_SECONDS = Histogram(
    "xz_connection_duration_seconds",
    "How long device connections lived.",
    buckets=(1, 5, 15, 60, 120, 300, 600, 1200, 1920),
)
WS_FRAMES = Counter("xz_ws_frames_total", "Audio packets of devices.", ["direction"])
WS_BYTES = Counter("xz_ws_bytes_total", "Audio bytes of devices.", ["direction"])
WS_CLOSE = Counter("xz_ws_close_total", "Device connections closed, by why.", ["reason"])
WS_SLOW = Counter("xz_ws_slow_device_total", "Times a device's socket would take no more.")
WS_BLOCKED = Gauge("xz_ws_blocked_devices", "Devices whose socket takes nothing now.")
WS_WRITE_BUFFER = Gauge("xz_ws_write_buffer_bytes", "Bytes that wait in this process for devices' sockets.")
UPLINK_LOG = Gauge("xz_uplink_log_bytes", "Bytes of all uplink logs.")
UPLINK_BACKLOG = Gauge("xz_uplink_backlog_seconds", "Sound not yet recognised, of the device with the most.")
EGRESS_FRAMES = Gauge("xz_egress_buffered_frames", "Frames of replies that wait for their time.")
SESSIONS = Gauge("xz_sessions", "Conversations by phase.", ["phase"])

FRAMES_IN = WS_FRAMES.labels("in")
FRAMES_OUT = WS_FRAMES.labels("out")
BYTES_IN = WS_BYTES.labels("in")
BYTES_OUT = WS_BYTES.labels("out")

_COUNTERS = {
    "bad_messages": Counter("xz_bad_messages_total", "Malformed or refused messages of devices.", ["reason"]),
    "generation_bumps": Counter("xz_generation_bumps_total", "Replies killed, by why.", ["reason"]),
    "turns": Counter("xz_turns_total", "Turns ended.", ["outcome"]),
    "turn_timeouts": Counter("xz_turn_timeouts_total", "Deadlines missed within turns.", ["stage"]),
    "stale": Counter("xz_stale_messages_total", "Worker messages of dead generations, dropped.", ["kind"]),
    "stream_retries": Counter("xz_stream_retries_total", "Streams opened again elsewhere.", ["pool"]),
    "stream_moves": Counter("xz_stream_moves_total", "Streams moved away from draining workers.", ["pool"]),
    "session_failures": Counter("xz_session_failures_total", "Session streams given up.", ["cause"]),
    "utterances_failed": Counter("xz_utterances_failed_total", "Utterances given up.", ["reason"]),
    "prompts": Counter("xz_prompts_total", "Canned prompts spoken.", ["prompt"]),
    "unknown_events": Counter("xz_unknown_events_total", "Worker events with an unknown name.", ["pool"]),
    "uplink_dropped": Counter("xz_uplink_dropped_total", "Frames not taken into an uplink log.", ["reason"]),
    "asr_overloaded": Counter("xz_asr_overloaded_total", "Utterances failed because recognition lagged behind."),
    "credit_violations": Counter("xz_credit_violations_total", "Workers that broke the rules of credit.", ["pool"]),
    "egress_underruns": Counter("xz_egress_underruns_total", "Times a device ran dry within a reply."),
    "empty_transcripts": Counter("xz_empty_transcripts_total", "Utterances without a word."),
    "self_echoes": Counter("xz_self_echoes_total", "Transcripts dropped as the device's own voice."),
    "ignored_transcripts": Counter("xz_ignored_transcripts_total", "Transcripts ignored: interruption is off."),
    "segments_clipped": Counter("xz_segments_clipped_total", "Segments that broke off while they were heard."),
    "segments_failed": Counter("xz_segments_failed_total", "Segments that no worker could speak."),
    "reply_truncated": Counter("xz_reply_truncated_total", "Segments beyond the limits of a reply."),
    "profile_timeouts": Counter("xz_profile_timeouts_total", "Ears opened without their device's profile."),
    "session_events_dropped": Counter("xz_session_events_dropped_total", "Events that no session worker could take."),
    "sessions_left_idle": Counter("xz_sessions_left_idle_total", "Silent sessions lost with their worker, for now."),
    "superseded": Counter("xz_connections_superseded_total", "Connections ended by a newer one of their device."),
    "turn_records_dropped": Counter("xz_turn_records_dropped_total", "Turns that no worker could commit in time."),
}

_HISTOGRAMS = {
    "turn_response": Histogram(
        "xz_turn_response_seconds",
        "From the end of the person's speech to the first frame of the answer.",
        buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
    ),
    "bargein_stop": Histogram(
        "xz_bargein_stop_seconds",
        "From an abort seen to its tts stop written.",
        buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1),
    ),
    "egress_lead": Histogram(
        "xz_egress_lead_seconds",
        "Least sound a device had in hand during one reply; near 0 = it nearly ran dry.",
        buckets=(0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3),
    ),
}

_TURN_STAGE = Histogram(
    "xz_turn_stage_seconds",
    "What each stage of a turn took.",
    ["stage"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60),
)
_STAGES = (
    (None, "accepted_ms", _TURN_STAGE.labels("recognising")),
    ("accepted_ms", "first_segment_ms", _TURN_STAGE.labels("thinking")),
    ("first_segment_ms", "first_audio_ms", _TURN_STAGE.labels("synthesising")),
    ("first_audio_ms", "turn_ms", _TURN_STAGE.labels("speaking")),
)
"""From which moment of a turn's log line to which; no moment = the end of the person's speech."""

_children = {(name, ""): counter for name, counter in _COUNTERS.items()}


def count(metric: str, label: str = "") -> None:
    """Add one to a counter that a core has named."""
    child = _children.get((metric, label))
    if child is None or (label == "" and _COUNTERS[metric]._labelnames):
        child = _children[metric, label] = _COUNTERS[metric].labels(label)
    child.inc()


def observe(metric: str, value: float) -> None:
    _HISTOGRAMS[metric].observe(value)


def observe_turn(fields: Mapping[str, Any]) -> None:
    """The stages of a finished turn. One that was not reached, or that a filler overtook, is left out."""
    for since, until, stage in _STAGES:
        begin_ms, end_ms = (0 if since is None else fields[since]), fields[until]
        if begin_ms is not None and end_ms is not None and end_ms >= begin_ms:
            stage.observe((end_ms - begin_ms) / 1000)
