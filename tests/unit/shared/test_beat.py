"""Who is alive."""

from __future__ import annotations

import pytest

from shared.ids import Role
from shared.link.beat import (
    BEAT_COALESCE_S,
    BEAT_INTERVAL_S,
    BeatClock,
    Liveness,
    RouterWatch,
    Steadiness,
    Verdict,
    worker_id,
)
from shared.link.messages import Beat

pytestmark = pytest.mark.unit


def beat(*, lag_ms: float = 0.0, stalled_ms: float = 0.0) -> Beat:
    return Beat(
        role="asr",
        incarnation="00000000",
        slot=3,
        capacity=8,
        active=0,
        draining=False,
        lag_ms=lag_ms,
        stalled_ms=stalled_ms,
        epoch=1,
        proto=1,
        pid=1,
        host="here",
        metrics_port=0,
    )


def pinged(liveness: Liveness, count: int, every_s: float) -> float:
    for n in range(count):
        liveness.on_pinged(liveness.heard_s + n * every_s)
    return liveness.heard_s


def test_identity_names_role_slot_and_incarnation() -> None:
    """Slots are labels with two digits."""
    assert worker_id(Role.ASR, 3, "1f2e3d4c") == "asr-03.1f2e3d4c"


def test_three_unanswered_pings_and_three_seconds_are_death() -> None:
    """Suspect comes first."""
    liveness = Liveness(heard_s=100.0)
    pinged(liveness, 3, every_s=1.0)
    assert liveness.verdict(101.9) is Verdict.ALIVE
    assert liveness.verdict(102.1) is Verdict.SUSPECT
    assert liveness.verdict(103.0) is Verdict.DEAD


def test_fast_pings_do_not_make_death_faster() -> None:
    """A worker with live streams is pinged four times a second, but gets the same three seconds."""
    liveness = Liveness(heard_s=0.0)
    pinged(liveness, 8, every_s=0.25)
    assert liveness.verdict(1.9) is Verdict.ALIVE
    assert liveness.verdict(2.5) is Verdict.SUSPECT


def test_silence_without_pings_is_no_death() -> None:
    """Nobody is dead who was not asked."""
    assert Liveness(heard_s=0.0).verdict(1000.0) is Verdict.ALIVE


def test_any_message_revives() -> None:
    """Whatever is heard answers all PINGs."""
    liveness = Liveness(heard_s=0.0)
    pinged(liveness, 5, every_s=1.0)
    liveness.on_heard(5.0)
    assert liveness.unanswered == 0
    assert liveness.verdict(5.0) is Verdict.ALIVE


def test_our_own_stall_is_forgiven() -> None:
    """After a stall everybody starts anew."""
    liveness = Liveness(heard_s=0.0)
    pinged(liveness, 4, every_s=1.0)
    liveness.forgive(60.0)
    assert liveness.verdict(60.0) is Verdict.ALIVE


def test_pings_keep_their_interval() -> None:
    """The first one is due at once."""
    liveness = Liveness(heard_s=0.0)
    assert liveness.is_ping_due(0.0, 1.0)
    liveness.on_pinged(0.0)
    assert not liveness.is_ping_due(0.5, 1.0)
    assert liveness.is_ping_due(0.999, 1.0)


@pytest.mark.parametrize("bad", [beat(lag_ms=251), beat(stalled_ms=501)])
def test_a_lagging_worker_needs_two_clean_beats(bad: Beat) -> None:
    """One clean beat between two bad ones is not recovery."""
    steadiness = Steadiness()
    assert not steadiness.is_lagging
    steadiness.on_beat(bad)
    steadiness.on_beat(beat())
    assert steadiness.is_lagging
    steadiness.on_beat(bad)
    steadiness.on_beat(beat())
    assert steadiness.is_lagging
    steadiness.on_beat(beat())
    assert not steadiness.is_lagging


def test_lag_at_the_limit_is_still_clean() -> None:
    """The limits themselves are allowed."""
    steadiness = Steadiness()
    steadiness.on_beat(beat(lag_ms=250, stalled_ms=500))
    assert not steadiness.is_lagging


def test_a_router_that_was_never_heard_is_not_gone() -> None:
    """Workers may start before routers."""
    assert not RouterWatch().is_gone(1e9)


def test_a_router_silent_for_five_seconds_is_gone() -> None:
    """Unless the silence was our own stall."""
    watch = RouterWatch()
    watch.on_heard(10.0)
    assert not watch.is_gone(14.9)
    assert watch.is_gone(15.0)
    watch.forgive(15.0)
    assert not watch.is_gone(15.0)


def test_only_another_boot_is_a_restart() -> None:
    """The first PING of a life tells its name; repeating it changes nothing."""
    watch = RouterWatch()
    assert not watch.on_boot("one")
    assert not watch.on_boot("one")
    assert watch.on_boot("two")


def test_changes_are_coalesced_and_never_postpone_a_beat() -> None:
    """A burst of changes makes one BEAT, and a due one stays due."""
    clock = BeatClock(due_s=0.0)
    clock.on_sent(10.0)
    assert clock.due_s == 10.0 + BEAT_INTERVAL_S
    clock.on_change(10.1)
    clock.on_change(10.11)
    assert clock.due_s == 10.1 + BEAT_COALESCE_S
    clock.on_urgent(10.115)
    assert clock.due_s == 10.115
