"""Twenty aborts at each stage of a turn; a thousand a stage are `python -m bench.aborts`."""

from __future__ import annotations

import pytest

from bench.aborts import STAGES, Aborts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_nothing_comes_behind_the_stop_that_answers_an_abort() -> None:
    """No frame, no second `tts stop`, no reply of the aborted turn, in whatever stage it was; the next turn works."""
    aborts = Aborts(devices=20, count=20)
    await aborts.run()
    assert not aborts.complaints, "\n".join(map(str, aborts.complaints[:40]))
    assert aborts.done == dict.fromkeys(STAGES, 20)
