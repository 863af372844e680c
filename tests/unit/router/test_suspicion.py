"""Who is suspected of having killed a worker, and who is convicted."""

from __future__ import annotations

import pytest

from router.pools.suspicion import MAX_REMEMBERED, YOUNG_S, Suspicion
from shared.ids import Role, WorkerId

pytestmark = pytest.mark.unit

FIRST, SECOND = WorkerId("tts-00.a"), WorkerId("tts-01.b")


def test_what_was_opened_in_the_last_second_is_suspect() -> None:
    """Of this device, of this role, and from that worker."""
    suspicion = Suspicion()
    assert not suspicion.on_death(Role.TTS, "one", FIRST, age_s=0.2, was_suspect=False)
    assert suspicion.falls_on(Role.TTS, "one", [SECOND, FIRST])
    assert not suspicion.falls_on(Role.TTS, "other", [FIRST])
    assert not suspicion.falls_on(Role.ASR, "one", [FIRST])
    assert not suspicion.falls_on(Role.TTS, "one", [SECOND])


def test_what_has_lived_for_a_second_is_innocent() -> None:
    """It has been served there; and a suspect that lives so long with its next worker is cleared."""
    suspicion = Suspicion()
    assert not suspicion.on_death(Role.TTS, "one", FIRST, age_s=YOUNG_S, was_suspect=False)
    assert not suspicion.falls_on(Role.TTS, "one", [FIRST])
    assert not suspicion.on_death(Role.TTS, "one", SECOND, age_s=YOUNG_S, was_suspect=True)


def test_a_suspect_that_is_there_at_a_second_death_is_poison() -> None:
    """One bad stream costs two workers."""
    suspicion = Suspicion()
    suspicion.on_death(Role.TTS, "one", FIRST, age_s=0.2, was_suspect=False)
    assert suspicion.on_death(Role.TTS, "one", SECOND, age_s=0.2, was_suspect=True)


def test_the_memory_is_bounded() -> None:
    """The oldest suspect is forgotten first."""
    suspicion = Suspicion()
    for number in range(MAX_REMEMBERED + 1):
        suspicion.on_death(Role.TTS, f"device {number}", FIRST, age_s=0.0, was_suspect=False)
    assert not suspicion.falls_on(Role.TTS, "device 0", [FIRST])
    assert suspicion.falls_on(Role.TTS, f"device {MAX_REMEMBERED}", [FIRST])
