"""What engines that compute here need on this machine: their library and their model, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator

from shared.config.local_asr import check_local_asr
from shared.config.local_tts import check_local_tts
from shared.errors import ConfigError
from shared.settings import Settings, chain_of


def local_faults(settings: Settings) -> Iterator[ConfigError]:
    """Of the selected engines and of those that would take over; nothing is loaded."""
    for pool, check in ((settings.asr, check_local_asr), (settings.tts, check_local_tts)):
        for choice in chain_of(pool):
            try:
                check(choice)
            except ConfigError as error:
                yield error
