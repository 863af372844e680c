"""Alibaba's messages: what goes out, what comes in, and what any of it means."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, Kind, UpstreamError
from workers.asr.engines.aliyun_protocol import AliyunDialogue, Wishes
from workers.asr.engines.dialogue import News, Over, Partial, SentenceOver, Started, joined

pytestmark = pytest.mark.unit

TASK = "0123456789abcdef0123456789abcdef"


def dialogue(**wishes: Any) -> AliyunDialogue:
    return AliyunDialogue(Wishes("appkey", **{"max_sentence_silence_ms": 800, **wishes}), TASK, lambda: "ab" * 16)


def event(name: str, payload: dict[str, Any] | None = None, *, status: Any = 20000000, task: str = TASK) -> str:
    header = {"namespace": "SpeechTranscriber", "name": name, "status": status, "task_id": task, "message_id": "m"}
    return json.dumps({"header": header, "payload": payload or {}})


def test_the_start_is_the_documented_message() -> None:
    """Every field that the service describes, and no other."""
    assert json.loads(dialogue().opening()) == {
        "header": {
            "namespace": "SpeechTranscriber",
            "name": "StartTranscription",
            "message_id": "ab" * 16,
            "task_id": TASK,
            "appkey": "appkey",
        },
        "payload": {
            "format": "pcm",
            "sample_rate": 16000,
            "enable_intermediate_result": True,
            "enable_punctuation_prediction": True,
            "enable_inverse_text_normalization": True,
            "max_sentence_silence": 800,
        },
    }


def test_lists_of_words_are_named_only_if_there_are_any() -> None:
    """An empty id would be one that the service does not know."""
    start = json.loads(dialogue(vocabulary_id="hot", customization_id="own").opening())
    assert (start["payload"]["vocabulary_id"], start["payload"]["customization_id"]) == ("hot", "own")


def test_the_stop_belongs_to_the_task_and_has_no_payload() -> None:
    """The service looks the task up by its id."""
    stop = json.loads(dialogue().closing())
    assert set(stop) == {"header"}
    assert (stop["header"]["name"], stop["header"]["task_id"]) == ("StopTranscription", TASK)


def test_sound_goes_out_as_it_is() -> None:
    """Raw PCM in binary messages."""
    assert dialogue().sound(b"\x01\x02") == b"\x01\x02"


def test_a_task_tells_its_start_its_sentences_and_its_end() -> None:
    """Sentences are joined; a changed result is the whole text so far."""
    task = dialogue()
    assert task.read(event("TranscriptionStarted", {"session_id": "s"})) == [Started()]
    assert task.read(event("SentenceBegin", {"index": 1, "time": 0})) == []
    assert task.read(event("TranscriptionResultChanged", {"index": 1, "result": "北京的天"})) == [Partial("北京的天")]
    assert task.read(event("SentenceEnd", {"index": 1, "time": 1820, "result": "北京的天气。"})) == [
        Partial("北京的天气。"),
        SentenceOver(1820, "北京的天气。"),
    ]
    assert task.read(event("TranscriptionResultChanged", {"index": 2, "result": "谢"})) == [Partial("北京的天气。谢")]
    task.read(event("SentenceEnd", {"index": 2, "time": 2600, "result": "谢谢。"}))
    assert task.read(event("TranscriptionCompleted")) == [Over("北京的天气。谢谢。")]


def test_silence_is_an_empty_text() -> None:
    """Completed without a result is no failure."""
    assert dialogue().read(event("TranscriptionCompleted")) == [Over("")]


def test_no_valid_audio_is_an_empty_text() -> None:
    """A task that fails because nobody spoke has heard what there was."""
    assert dialogue().read(event("TaskFailed", status=40270002)) == [Over("")]


def test_a_sentence_that_never_ended_still_counts() -> None:
    """What the service made of it last is better than nothing."""
    task = dialogue()
    task.read(event("TranscriptionResultChanged", {"index": 1, "result": "hello"}))
    assert task.read(event("TranscriptionCompleted")) == [Over("hello")]


def test_a_repeated_sentence_counts_once() -> None:
    """The index says which one it is."""
    task = dialogue()
    for _ in range(2):
        task.read(event("SentenceEnd", {"index": 1, "result": "hello"}))
    assert task.read(event("TranscriptionCompleted")) == [Over("hello")]


@pytest.mark.parametrize("name", ["SentenceEnd", "TranscriptionCompleted", "TaskFailed"])
def test_another_task_is_none_of_our_business(name: str) -> None:
    """Neither its words nor its end nor its failure."""
    task = dialogue()
    status = 50000000 if name == "TaskFailed" else 20000000
    assert task.read(event(name, {"index": 1, "result": "theirs"}, task="f" * 32, status=status)) == []
    assert task.read(event("TranscriptionCompleted")) == [Over("")]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (40000000, Code.REFUSED, Kind.RETRYABLE),
        (40000001, Code.AUTH, Kind.FATAL),
        (40000004, Code.IDLE_TIMEOUT, Kind.RETRYABLE),
        (40000005, Code.QUOTA, Kind.QUOTA),
        (40010003, Code.REFUSED, Kind.RETRYABLE),
        (40020105, Code.AUTH, Kind.FATAL),
        (40270003, Code.INPUT, Kind.INPUT),
        (41010120, Code.IDLE_TIMEOUT, Kind.RETRYABLE),
        (50000000, Code.FAILED, Kind.RETRYABLE),
        (59999999, Code.FAILED, Kind.RETRYABLE),
        ("", Code.FAILED, Kind.RETRYABLE),
        (None, Code.FAILED, Kind.RETRYABLE),
    ],
)
def test_a_failed_task_says_what_follows(status: object, code: str, kind: Kind) -> None:
    """By the service's number, never by its words, which may repeat a token."""
    with pytest.raises(UpstreamError) as failure:
        dialogue().read(event("TaskFailed", {"text": "The token 'secret' is invalid"}, status=status))
    assert (failure.value.code, failure.value.kind) == (code, kind)
    assert "secret" not in str(failure.value)


def test_a_bad_status_in_any_event_is_a_failure() -> None:
    """Not only TaskFailed tells of one."""
    with pytest.raises(UpstreamError):
        dialogue().read(event("SentenceEnd", {"index": 1, "result": "x"}, status=50000000))


@pytest.mark.parametrize("status", [40270002, 40270003])
def test_a_piece_that_it_could_not_hear_does_not_end_the_task(status: int) -> None:
    """Only TaskFailed ends it."""
    assert dialogue().read(event("SentenceEnd", {"index": 1}, status=status)) == []


@pytest.mark.parametrize("message", [b"\x00", "", "{", "[]", "{}", '{"header": 1}', "[" * 100_000])
def test_what_is_no_event_is_malformed(message: str | bytes) -> None:
    """A typed failure, not a crash."""
    with pytest.raises(UpstreamError) as failure:
        dialogue().read(message)
    assert failure.value.code == Code.MALFORMED


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["TranscriptionStarted", "TranscriptionResultChanged", "SentenceEnd", "TranscriptionCompleted", "TaskFailed", "X"]
)
PAYLOADS = ANYTHING | st.fixed_dictionaries({"index": ANYTHING, "result": ANYTHING, "time": ANYTHING})


@given(st.lists(st.tuples(NAMES, PAYLOADS, st.sampled_from([20000000, 40000005, "x", None])), max_size=8))
def test_nothing_that_comes_does_worse_than_a_typed_failure(events: list[tuple[str, Any, Any]]) -> None:
    """Fields of the wrong kind are as good as missing."""
    task = dialogue()
    news: list[News] = []
    for name, payload, status in events:
        header = {"name": name, "status": status, "task_id": TASK}
        with contextlib.suppress(UpstreamError):
            news += task.read(json.dumps({"header": header, "payload": payload}))
    assert all(isinstance(one, Started | Partial | SentenceOver | Over) for one in news)


@pytest.mark.parametrize(
    ("sentences", "text"),
    [
        ([], ""),
        (["你好。", "再见。"], "你好。再见。"),
        (["Hello.", "How are you?"], "Hello. How are you?"),
        (["打开", "TV"], "打开TV"),
        (["", "one", ""], "one"),
    ],
)
def test_sentences_are_joined_as_they_are_written(sentences: list[str], text: str) -> None:
    """Chinese has no spaces between sentences."""
    assert joined(sentences) == text
