"""Failing services outside in short: every turn ends, and its person hears something. Invariants only, no times."""

from __future__ import annotations

import pytest
from websockets.asyncio.client import connect

from bench.trial.trial import Trial, TrialPlan
from bench.trial.upstream_plan import Illness, UpstreamFault
from bench.trial.upstreams import LLM, PROVIDERS, Upstreams
from bench.upstreams.doubao import ACCESS_TOKEN, APP_ID

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FAULTS = [
    UpstreamFault(0.5, "doubao", Illness.CLOSED, 4.0),
    UpstreamFault(0.5, "huoshan", Illness.FAULT, 4.0, "quota@start"),
    UpstreamFault(1.0, LLM, Illness.FAULT, 3.0, "error@connect*1"),
    UpstreamFault(2.0, "edge", Illness.FAULT, 3.0, "close@stream*3"),
    UpstreamFault(4.0, "fun_asr", Illness.FAULT, 2.0, "error@finish*1"),
    UpstreamFault(5.0, "edge", Illness.SLOW, 2.0, latency_ms=800, drip_ms=100),
    UpstreamFault(4.0, LLM, Illness.FAULT, 2.0, "close@stream*1"),
]


async def test_talk_survives_services_that_fail() -> None:
    """No silent turn, no open one, nothing of somebody else's; the firsts answer again, and nothing is left open."""
    plan = TrialPlan(
        devices=6,
        seconds=6.0,
        seed="ci",
        counts={"session": 1, "asr": 1, "tts": 1},
        providers=PROVIDERS,
        upstream_faults=FAULTS,
        warm_up_s=2.0,
    )
    trial = Trial(plan)
    await trial.run()
    report = trial.report()
    assert not trial.complaints, "\n".join(map(str, trial.complaints[:40]))
    assert report["turns"]["answered"] >= 6, report
    assert sum(report["upstream_faults"].values()) == len(FAULTS)
    assert {"ASR.DoubaoStreamASR", "TTS.HuoshanDoubleStreamTTS"} <= set(report["upstream_fallbacks_from"]), report
    assert report["upstream_breaker_opens"].get("TTS.HuoshanDoubleStreamTTS"), report
    assert report["healed_after_s"] is not None


async def test_a_session_that_is_left_open_is_complained_of() -> None:
    """A judge that sees nothing judges nothing."""
    keys = {"X-Api-App-Key": APP_ID, "X-Api-Access-Key": ACCESS_TOKEN, "X-Api-Resource-Id": "any"}
    async with Upstreams(["doubao"], [0, 0]) as upstreams:
        async with connect(upstreams.fakes["doubao"].url, additional_headers=keys, proxy=None):
            await upstreams.at_rest(0.0, within_s=0.1)
        assert [complaint.code for complaint in upstreams.complaints] == ["upstream_session_left"]
