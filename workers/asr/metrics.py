"""What an asr worker counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FINAL_SECONDS = Histogram(
    "xz_asr_final_seconds", "End of speech to its text", buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5)
)
FIRST_PARTIAL_SECONDS = Histogram(
    "xz_asr_first_partial_seconds", "Utterance begun to its first partial", buckets=(0.1, 0.2, 0.5, 1, 2, 5)
)
REALTIME_FACTOR = Histogram(
    "xz_asr_realtime_factor",
    "Work on an utterance by its length; below 1 is faster than speech",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2),
)
AUDIO_SECONDS = Counter("xz_asr_audio_seconds", "Audio decoded")
BAD_PACKETS = Counter("xz_asr_bad_packets", "Packets that could not be decoded and were concealed")
UTTERANCES = Counter("xz_asr_utterances", "Utterances ended, by what ended them", ["reason"])
ENDED_SILENCE = UTTERANCES.labels("silence")
ENDED_LENGTH = UTTERANCES.labels("length")
ENDED_MARK = UTTERANCES.labels("mark")
ENDED_END = UTTERANCES.labels("end")
ENDED_UPSTREAM = UTTERANCES.labels("upstream")
ENDED = {
    "silence": ENDED_SILENCE,
    "length": ENDED_LENGTH,
    "mark": ENDED_MARK,
    "end": ENDED_END,
    "upstream": ENDED_UPSTREAM,
}
FAILURES = Counter("xz_asr_failures", "Utterances that failed", ["code"])
FALLBACKS = Counter("xz_asr_fallbacks", "Utterances given to the next engine, by who had failed", ["engine"])
KEPT_BYTES = Gauge("xz_asr_kept_bytes", "Sound of open utterances that is held in case it must be heard again")

VAD_END_SECONDS = Histogram(
    "xz_vad_end_seconds",
    "From the last voice to the decision that the utterance is over, sound that waits behind it included",
    buckets=(0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8, 1, 1.5, 2, 3),
)
VAD_QUEUE_DEPTH = Gauge("xz_vad_queue_depth", "Frames that wait for the speech detector")
VAD_BATCH_SIZE = Histogram("xz_vad_batch_size", "Windows in one run of the model", buckets=(1, 2, 4, 8, 16, 32, 64))
VAD_FAILURES = Counter("xz_vad_failures", "Batches that raised")
VAD_NOT_FINITE = Counter("xz_vad_not_finite", "Windows whose probability was not a number")

RECOGNISERS_BUSY = Gauge("xz_asr_recognisers_busy", "Recognisers at work on an utterance")
RECOGNISERS_REPLACED = Counter("xz_asr_recognisers_replaced", "Recognisers thrown away and made anew", ["reason"])
REPLACED_BROKEN = RECOGNISERS_REPLACED.labels("broken")
REPLACED_STUCK = RECOGNISERS_REPLACED.labels("stuck")
REPLACED_LOST = RECOGNISERS_REPLACED.labels("lost")
RECOGNISER_WAIT_SECONDS = Histogram(
    "xz_asr_recogniser_wait_seconds", "Wait for a free recogniser", buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.3)
)

PENDING_FRAMES = Gauge("xz_asr_pending_frames", "Frames of all streams that wait to be decoded")
BACKLOG_SECONDS = Gauge("xz_asr_backlog_seconds", "Sound that waits to be decoded, of the stream with the most")
WAITING_FOR_RECOGNISER = Gauge("xz_asr_recogniser_waiters", "Utterances that wait for a free recogniser")

MODELS_LOADED = Gauge("xz_asr_models_loaded", "Recognition models that are loaded, each in a process of its own")
MODELS_LOST = Counter("xz_asr_models_lost", "Loaded models whose process died")
