"""What is said to and by Alibaba's streaming synthesis, and what a task makes of it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, Kind, UpstreamError
from workers.tts.engines.aliyun_protocol import MAX_PIECE_CHARS, Task, Wishes

pytestmark = pytest.mark.unit

TASK = "0123456789abcdef0123456789abcdef"
OK = 20000000


def new_task() -> Task:
    numbers = itertools.count()
    return Task("app", TASK, lambda: f"{next(numbers):032x}")


def started() -> Task:
    task = new_task()
    task.take(event("SynthesisStarted"))
    return task


def event(name: str, status: int | None = OK, text: str = "", task_id: str | None = TASK, **payload: Any) -> str:
    header: dict[str, Any] = {"name": name, "status_text": text, "namespace": "FlowingSpeechSynthesizer"}
    header |= {} if status is None else {"status": status}
    header |= {} if task_id is None else {"task_id": task_id}
    return json.dumps({"header": header, "payload": payload})


def failure(message: str | bytes, task: Task | None = None) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        (task or started()).take(message)
    return caught.value


def test_a_task_begins_with_how_it_is_to_sound() -> None:
    """The header names the task, the payload the voice; the format needs no decoding."""
    wishes = Wishes("longxiaochun", 16_000, volume=60, speech_rate=-100, pitch_rate=20)
    assert json.loads(new_task().opening(wishes)) == {
        "header": {
            "message_id": "0" * 32,
            "task_id": TASK,
            "namespace": "FlowingSpeechSynthesizer",
            "name": "StartSynthesis",
            "appkey": "app",
        },
        "payload": {
            "voice": "longxiaochun",
            "format": "pcm",
            "sample_rate": 16_000,
            "volume": 60,
            "speech_rate": -100,
            "pitch_rate": 20,
        },
    }


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=5000))
def test_a_text_goes_out_whole_in_pieces_that_the_service_takes(text: str) -> None:
    """Nothing is lost or added at the cuts, the stop follows at once, and no message has the id of another."""
    *runs, stop = (json.loads(message) for message in new_task().text(text))
    pieces = [run["payload"]["text"] for run in runs]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= MAX_PIECE_CHARS
    assert {run["header"]["name"] for run in runs} == {"RunSynthesis"}
    assert stop["header"]["name"] == "StopSynthesis"
    assert "payload" not in stop
    headers = [message["header"] for message in (*runs, stop)]
    assert {header["task_id"] for header in headers} == {TASK}
    assert len({header["message_id"] for header in headers}) == len(headers)


def test_a_task_gives_its_sound_until_it_is_completed() -> None:
    """Sound is handed on as it comes, the sentences' marks are not."""
    task = started()
    assert task.is_started
    assert task.take(event("SentenceBegin", index=1)) == b""
    assert task.take(b"\x01\x02") == b"\x01\x02"
    assert task.take(event("SentenceEnd", index=1)) == b""
    assert not task.is_over
    assert task.take(event("SynthesisCompleted")) == b""
    assert task.is_over


def test_a_sound_before_the_start_is_an_older_tasks() -> None:
    """The sound names no task, but the start does, and it comes first."""
    task = new_task()
    assert task.take(b"\x01\x02") == b""
    task.take(event("SynthesisStarted"))
    assert task.take(b"\x03\x04") == b"\x03\x04"
    assert task.strays == 1


def test_events_of_another_task_are_dropped_and_counted() -> None:
    """Neither its start nor its end nor its failure is ours."""
    task = new_task()
    for name in ("SynthesisStarted", "SynthesisCompleted", "TaskFailed"):
        assert task.take(event(name, task_id="other")) == b""
    assert (task.strays, task.is_started, task.is_over) == (3, False, False)


@pytest.mark.parametrize("task_id", ["", None])
def test_a_failure_without_a_task_is_ours(task_id: str | None) -> None:
    """The gateway fails before it knows of a task."""
    assert failure(event("TaskFailed", 40000005, task_id=task_id), new_task()).code == Code.QUOTA


@pytest.mark.parametrize("task", [new_task, started])
def test_an_end_without_a_sound_is_a_failure(task: Any) -> None:
    """Something was to be said and nothing was."""
    assert failure(event("SynthesisCompleted"), task()).code == Code.NO_RESULT


@pytest.mark.parametrize("name", ["TaskFailed", "SynthesisStarted", "SentenceEnd", "SynthesisCompleted"])
@pytest.mark.parametrize(
    ("status", "text", "code", "kind", "reason"),
    [
        (40000000, "Gateway:CLIENT_ERROR:in words", Code.REFUSED, Kind.RETRYABLE, "40000000"),
        (40000001, "Gateway:ACCESS_DENIED:The token 'xyz' has expired!", Code.AUTH, Kind.FATAL, "40000001"),
        (40000002, "Gateway:MESSAGE_INVALID:in words", Code.REFUSED, Kind.RETRYABLE, "40000002"),
        (40000004, "Gateway:IDLE_TIMEOUT:idle", Code.IDLE_TIMEOUT, Kind.RETRYABLE, "40000004"),
        (40000005, "Gateway:TOO_MANY_REQUESTS:Too many requests!", Code.QUOTA, Kind.QUOTA, "40000005"),
        (40000010, "Gateway:FREE_TRIAL_EXPIRED:in words", Code.AUTH, Kind.FATAL, "40000010"),
        (40020105, "Meta:APPKEY_NOT_EXIST:Appkey not exist!", Code.AUTH, Kind.FATAL, "40020105"),
        (41020001, "TTS:TtsClientError:Request json illegal", Code.REFUSED, Kind.RETRYABLE, "41020001"),
        (41020001, "TTS:TtsClientError:Engine return error code: 418", Code.REFUSED, Kind.FATAL, "41020001_418"),
        (50000000, "GRPC_ERROR:Grpc error!", Code.FAILED, Kind.RETRYABLE, "50000000"),
        (12345678, "never heard of", Code.FAILED, Kind.RETRYABLE, "other"),
    ],
)
def test_a_failure_is_known_by_its_status(
    *, name: str, status: int, text: str, code: str, kind: Kind, reason: str
) -> None:
    """Whatever event brings it; the label is bounded, and what the service said goes no further."""
    error = failure(event(name, status, text))
    assert (error.code, error.kind, error.reason) == (code, kind, reason)
    assert text not in str(error)


@pytest.mark.parametrize("message", ["", "{garbage", "[]", "{}", '{"header": 5}', "[" * 100_000])
def test_what_is_no_event_is_malformed(message: str) -> None:
    """A typed error, not one of the JSON reader."""
    assert failure(message).code == Code.MALFORMED


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_whatever_comes_nothing_but_a_typed_error_leaves(message: str | bytes) -> None:
    """Also for JSON that is no event."""
    try:
        started().take(message)
    except UpstreamError as error:
        assert error.code.startswith("upstream_")


NAMES = ["SynthesisStarted", "SentenceBegin", "SynthesisCompleted", "TaskFailed", "sound", "Unheard"]


@given(st.lists(st.sampled_from(NAMES), max_size=12))
def test_a_task_ends_once_whatever_comes(names: list[str]) -> None:
    """After its end no event opens it again and no sound is its own."""
    task, was_over = new_task(), False
    for name in names:
        try:
            sound = task.take(b"\x01\x02" if name == "sound" else event(name))
        except UpstreamError:
            return
        assert task.is_over >= was_over
        assert not (was_over and sound)
        was_over = task.is_over
