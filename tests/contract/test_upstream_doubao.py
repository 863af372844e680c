"""Volcengine's streaming recognition: what is its own."""

from __future__ import annotations

import pytest

from bench.upstreams.doubao import ACCESS_TOKEN, APP_ID, Doubao
from bench.upstreams.script import Fault, Script
from shared.config.options.volcengine import DoubaoAsrOptions
from shared.errors import ConfigError
from shared.marks import Mark
from shared.settings import EngineChoice
from shared.upstream.faults import Code, Kind
from tests.fakes.remote_asr import Ear, engine_of, failure_of, marked, quiet, recogniser_of, text_of
from workers.asr.engines.registry import make_engine

pytestmark = pytest.mark.contract

HELLO = marked(Mark(1, 1), 1500)


@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize("compresses", [True, False])
async def test_every_kind_of_answer_is_understood(compresses: bool, numbers: bool) -> None:
    """Gzipped or not, with a sequence or not."""
    async with Doubao() as fake, recogniser_of(fake) as recogniser:
        fake.compresses, fake.numbers = compresses, numbers
        ear = Ear()
        assert await text_of(recogniser, HELLO, ear) == Mark(1, 1).word
        assert ear.partials


async def test_the_keys_are_in_the_headers_and_nowhere_else() -> None:
    """Each connection has an id of its own."""
    async with Doubao() as fake, recogniser_of(fake) as recogniser:
        for _ in range(2):
            await text_of(recogniser, HELLO)
        headers = [{key.lower(): value for key, value in one.headers.items()} for one in fake.sessions]
        assert {one["x-api-app-key"] for one in headers} == {APP_ID}
        assert {one["x-api-access-key"] for one in headers} == {ACCESS_TOKEN}
        assert {one["x-api-resource-id"] for one in headers} == {"volc.bigasr.sauc.duration"}
        assert len({one["x-api-connect-id"] for one in headers}) == 2
        assert ACCESS_TOKEN not in str(fake.sessions[0].started)


async def test_wrong_keys_are_fatal() -> None:
    """Somebody must mend them."""
    async with Doubao() as fake, recogniser_of(fake, access_token="wrong") as recogniser:
        failure = await failure_of(recogniser, HELLO)
        assert (failure.code, failure.kind) == (Code.AUTH, Kind.FATAL)


async def test_what_the_section_says_reaches_the_service() -> None:
    """An App ID may be written as a number; without a choice ours is later than our own end of speech."""
    async with Doubao() as fake:
        for keys in (
            {},
            {"endpoint": "upstream", "appid": int(APP_ID)},
            {
                "end_window_size": "200",
                "boosting_table_name": "hot",
                "correct_table_name": "（选填）你的替换词文件名称",
            },
            {"enable_multilingual": True, "language": "ja-JP"},
        ):
            async with recogniser_of(fake, **keys) as recogniser:
                await text_of(recogniser, HELLO)
        requests = [one.started["request"] for one in fake.sessions]
        assert [request["end_window_size"] for request in requests] == [3000, 800, 200, 3000]
        assert ["force_to_speech_time" in request for request in requests] == [False, True, False, False]
        assert [request.get("corpus") for request in requests] == [None, None, {"boosting_table_name": "hot"}, None]
        assert [one.started["audio"].get("language") for one in fake.sessions] == [None, None, None, "ja-JP"]


async def test_no_speech_so_far_does_not_end_the_utterance() -> None:
    """1013 in the middle, and then somebody speaks."""
    async with Doubao(Script(fault=Fault.parse("no_speech@stream"))) as fake, recogniser_of(fake) as recogniser:
        assert await text_of(recogniser, quiet(600) + HELLO) == Mark(1, 1).word


def test_each_variant_has_its_address() -> None:
    """More languages are another variant of the service."""
    keys = {"appid": "1", "access_token": "t"}
    assert DoubaoAsrOptions(**keys).url == "wss://openspeech.bytedance.com/api/v3/sauc/bigmodel_async"
    assert DoubaoAsrOptions(**keys, enable_multilingual=True).url.endswith("/api/v3/sauc/bigmodel_nostream")


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"appid": "你的火山引擎语音合成服务appid"}, "appid"),
        ({"access_token": None}, "access_token"),
        ({"end_window_size": 100}, "end_window_size"),
        ({"endpoint": "cloud"}, "endpoint"),
    ],
)
def test_a_wrong_key_is_named(keys: dict[str, object], named: str) -> None:
    """And no secret is shown."""
    with pytest.raises(ConfigError) as failure:
        make_engine(EngineChoice(name="Mine", type="doubao_stream", options={**Doubao().section(), **keys}))
    assert failure.value.key == f"ASR.Mine.{named}"
    assert ACCESS_TOKEN not in str(failure.value)


async def test_whether_a_name_is_looked_up_is_known() -> None:
    """The process plans its threads with it."""
    async with Doubao() as fake, engine_of(fake, {}) as here, engine_of(fake, {"ws_url": ""}) as there:
        assert (here.resolves_names, there.resolves_names) == (False, True)
