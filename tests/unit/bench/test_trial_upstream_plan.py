"""A plan of illnesses of services outside: the same for the same seed, one at a time each, all well in the end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trial.upstream_plan import FAULTS, Illness, UpstreamFault, plan_upstream_faults
from bench.trial.upstreams import LLM, PROVIDERS, Upstreams
from bench.upstreams.roster import NAMES
from bench.upstreams.script import Kind, Script

pytestmark = pytest.mark.unit

UPSTREAMS = (*PROVIDERS, LLM)
SECONDS = 300.0


def plan(seed: str) -> list[UpstreamFault]:
    return plan_upstream_faults(seed, SECONDS, UPSTREAMS, every_s=1.0)


def test_a_seed_names_a_plan() -> None:
    """Equal seeds are equal plans, others are not."""
    assert plan("7") == plan("7") != plan("8")


def test_every_illness_and_every_kind_of_fault_comes() -> None:
    """To everybody, in a few plans of five minutes; but nobody says that nothing was said."""
    faults = [fault for seed in "12345678" for fault in plan(seed)]
    assert {(fault.upstream, fault.illness) for fault in faults} == {
        (name, each) for name in UPSTREAMS for each in Illness
    }
    kinds = {fault.script.fault.kind for fault in faults if fault.script.fault}
    assert kinds == set(Kind) - {Kind.NO_SPEECH}


def test_there_are_faults_for_every_fake_that_is_asked_in_talk() -> None:
    """The voice print has no chain: it is not asked for words or sound."""
    assert set(FAULTS) == set(NAMES) - {"voiceprint"} | {LLM}


@given(st.text(max_size=8))
def test_one_illness_at_a_time_and_all_well_at_the_end(seed: str) -> None:
    """A service has recovered before the next one, and a script is one that a fake can have."""
    faults = plan(seed)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
    assert all(fault.ends_s <= SECONDS for fault in faults)
    for upstream in UPSTREAMS:
        own = [fault for fault in faults if fault.upstream == upstream]
        assert all(before.ends_s < after.at_s for before, after in pairwise(own))
    assert all((fault.script == Script()) == (fault.illness is Illness.CLOSED) for fault in faults)


def test_the_configuration_is_the_chain() -> None:
    """In the order in which the providers were named, with a voice of our own at the end."""
    upstreams = Upstreams(PROVIDERS, range(20_000, 20_007))
    assert upstreams.firsts == ["ASR.DoubaoStreamASR", "TTS.HuoshanDoubleStreamTTS", "LLM.OpenAILLM"]
    assert upstreams.chain("ASR") == ["DoubaoStreamASR", "FunASRServer"]
    assert "TTS:\n  - HuoshanDoubleStreamTTS\n  - EdgeTTS\n  - OwnVoice\n" in upstreams.config()
