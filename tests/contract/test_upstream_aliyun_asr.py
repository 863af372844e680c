"""Alibaba's transcription: what is its own, its token above all."""

from __future__ import annotations

import json
import socket
import time

import pytest

from bench.upstreams.aliyun_asr import APPKEY, KEY_ID, SECRET, AliyunAsr
from bench.upstreams.fake import HOST
from bench.upstreams.script import Fault, Script
from shared.errors import ConfigError
from shared.marks import Mark
from shared.settings import EngineChoice
from shared.upstream.aliyun_token import fetch_token, signed_query, token_of
from shared.upstream.faults import Code, Kind, UpstreamError
from tests.fakes.remote_asr import (
    Ear,
    engine_of,
    failure_of,
    marked,
    next_failure,
    recogniser_of,
    refusing_port,
    text_of,
)
from workers.asr.engines.registry import make_engine

pytestmark = pytest.mark.contract

HELLO = marked(Mark(1, 1))
OWN_KEYS = {"access_key_id": "", "access_key_secret": ""}


def test_the_signature_is_the_known_one() -> None:
    """Worked out with another program for the same key, number and time."""
    query = signed_query("AKID", "SECRET", "00000000-0000-1000-8000-000000000000", "2024-08-07T03:06:40Z")
    assert query == (
        "Signature=FYqRRERGXwP1WKTB3XNeCG%2F%2BKH0%3D&AccessKeyId=AKID&Action=CreateToken&Format=JSON"
        "&RegionId=cn-shanghai&SignatureMethod=HMAC-SHA1&SignatureNonce=00000000-0000-1000-8000-000000000000"
        "&SignatureVersion=1.0&Timestamp=2024-08-07T03%3A06%3A40Z&Version=2019-02-28"
    )


async def test_a_token_is_fetched_once_for_many_utterances() -> None:
    """It lasts; and it is the only credential that the gateway sees."""
    async with AliyunAsr() as fake, recogniser_of(fake) as recogniser:
        for _ in range(3):
            await text_of(recogniser, HELLO)
        assert fake.token_requests == 1
        headers = {key.lower(): value for key, value in fake.sessions[0].headers.items()}
        assert headers["x-nls-token"] in fake.tokens
        assert not {KEY_ID, SECRET} & set(headers.values())


async def test_a_fixed_token_is_used_as_it_is() -> None:
    """Without an AccessKey nothing is fetched."""
    async with AliyunAsr() as fake:
        fake.tokens["given"] = time.time() + 60
        async with recogniser_of(fake, token="given", **OWN_KEYS) as recogniser:
            assert await text_of(recogniser, HELLO) == Mark(1, 1).word
        assert fake.token_requests == 0


async def test_a_token_that_was_taken_back_is_replaced() -> None:
    """The failure may be retried, and then there is a new one."""
    async with AliyunAsr() as fake, recogniser_of(fake) as recogniser:
        await text_of(recogniser, HELLO)
        fake.tokens.clear()
        failure = await failure_of(recogniser, HELLO)
        assert (failure.code, failure.kind, failure.retryable) == (Code.AUTH, Kind.RETRYABLE, True)
        assert await text_of(recogniser, HELLO) == Mark(1, 1).word


async def test_a_fixed_token_that_was_taken_back_is_fatal() -> None:
    """Somebody must give another."""
    async with AliyunAsr() as fake, recogniser_of(fake, token="old", **OWN_KEYS) as recogniser:
        failure = await failure_of(recogniser, HELLO)
        assert (failure.code, failure.kind) == (Code.AUTH, Kind.FATAL)


@pytest.mark.parametrize(
    ("refusal", "code", "kind"),
    [
        ("InvalidAccessKeyId.NotFound", Code.AUTH, Kind.FATAL),
        ("SignatureDoesNotMatch", Code.AUTH, Kind.FATAL),
        ("Throttling.User", Code.QUOTA, Kind.QUOTA),
        ("ServiceUnavailable", Code.FAILED, Kind.RETRYABLE),
        ("SomethingNew", Code.FAILED, Kind.RETRYABLE),
    ],
)
async def test_a_refused_token_says_what_follows(refusal: str, code: str, kind: Kind) -> None:
    """By the token service's own name for it."""
    async with AliyunAsr() as fake, recogniser_of(fake) as recogniser:
        fake.token_refusal = refusal
        failure = await failure_of(recogniser, HELLO)
        assert (failure.code, failure.kind) == (code, kind)
        assert fake.sessions == []


@pytest.mark.parametrize(("key_id", "secret"), [("wrong", SECRET), (KEY_ID, "wrong")])
async def test_the_fake_checks_key_and_signature(key_id: str, secret: str) -> None:
    """So that the client's signature is really checked by another's code."""
    async with AliyunAsr() as fake:
        assert (await fetch_token(KEY_ID, SECRET, url=fake.token_url)).value in fake.tokens
        with pytest.raises(UpstreamError) as failure:
            await fetch_token(key_id, secret, url=fake.token_url)
        assert (failure.value.code, failure.value.kind) == (Code.AUTH, Kind.FATAL)


async def test_a_token_service_that_is_not_there_is_a_typed_failure() -> None:
    """Nothing of the address, which holds the key's id, is told."""
    with refusing_port() as port, pytest.raises(UpstreamError) as failure:
        await fetch_token(KEY_ID, SECRET, url=f"http://{HOST}:{port}/")
    assert failure.value.code == Code.CONNECT
    assert KEY_ID not in repr(failure.value)


async def test_a_token_service_that_falls_silent_is_given_up() -> None:
    """It has a deadline of its own beside the connection's."""
    with socket.create_server((HOST, 0)) as silent, pytest.raises(UpstreamError) as failure:
        await fetch_token(KEY_ID, SECRET, url=f"http://{HOST}:{silent.getsockname()[1]}/", timeout_s=0.3)
    assert failure.value.code == Code.FIRST_TIMEOUT


async def test_an_answer_without_a_token_is_malformed() -> None:
    """A page of a captive portal, say."""
    for answer in ("<html>", "[]", '{"Token": {"Id": ""}}', '{"Token": {"Id": "x", "ExpireTime": "soon"}}'):
        with pytest.raises(UpstreamError) as failure:
            token_of(json.loads(answer) if answer[0] != "<" else answer)
        assert failure.value.code == Code.MALFORMED


async def test_what_the_section_says_reaches_the_service() -> None:
    """And what it does not say is our own choice: later than our own end of speech."""
    async with AliyunAsr() as fake:
        for keys in ({}, {"endpoint": "upstream"}, {"max_sentence_silence": "1200", "vocabulary_id": "hot"}):
            async with recogniser_of(fake, **keys) as recogniser:
                await text_of(recogniser, HELLO)
        payloads = [one.started["payload"] for one in fake.sessions]
        assert [payload["max_sentence_silence"] for payload in payloads] == [2000, 800, 1200]
        assert [payload.get("vocabulary_id") for payload in payloads] == [None, None, "hot"]
        assert {one.started["header"]["appkey"] for one in fake.sessions} == {APPKEY}


async def test_an_end_that_nobody_asked_for_is_a_failure() -> None:
    """What is said after it would be lost: the caller has the sound and asks again."""
    async with AliyunAsr(Script(fault=Fault.parse("no_speech@stream"))) as fake, recogniser_of(fake) as recogniser:
        recogniser.begin(Ear().brief(), Ear().on_partial)
        recogniser.feed(HELLO)
        assert (await next_failure(recogniser)).code == Code.CLOSED


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"appkey": "你的阿里云智能语音交互服务项目Appkey"}, "appkey"),
        ({"access_key_id": "你的阿里云账号access_key_id"}, "access_key_id"),
        ({"access_key_secret": ""}, "access_key_id"),
        ({"max_sentence_silence": 100}, "max_sentence_silence"),
        ({"endpoint": "cloud"}, "endpoint"),
        ({"ws_url": "https://example.com"}, "ws_url"),
    ],
)
def test_a_wrong_key_is_named(keys: dict[str, object], named: str) -> None:
    """And no secret is shown."""
    options = {**AliyunAsr().section(), "max_sentence_silence": 800, **keys}
    with pytest.raises(ConfigError) as failure:
        make_engine(EngineChoice(name="AliyunStreamASR", type="aliyun_stream", options=options))
    assert failure.value.key == f"ASR.AliyunStreamASR.{named}"
    assert SECRET not in str(failure.value)


async def test_whether_a_name_is_looked_up_is_known() -> None:
    """The process plans its threads with it."""
    async with AliyunAsr() as fake, engine_of(fake, {}) as here, engine_of(fake, {"ws_url": ""}) as there:
        assert (here.resolves_names, there.resolves_names) == (False, True)
