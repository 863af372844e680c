"""`manual`: the whole stream is one utterance, and no voice detection runs."""

from __future__ import annotations

from shared.link.messages import Final, OpenAsr
from shared.worker.service import Stream
from workers.asr.held_key import HeldKey
from workers.asr.listening import Listening
from workers.asr.opus import Pcm
from workers.asr.utterance import Recognition


class HeldListening(Listening):
    """Feeds every frame until the key is released."""

    def __init__(self, stream: Stream, spec: OpenAsr, recognition: Recognition) -> None:
        super().__init__(stream, spec, recognition)
        self._key = HeldKey(spec.vad.max_utterance_ms, spec.utterance, self._timeline.end_sample)

    @property
    def _is_busy(self) -> bool:
        return False

    @property
    def _keep_sample(self) -> int:
        return self._timeline.end_sample

    def _on_pcm(self, pcm: Pcm) -> None:
        is_fed = self._key.is_feeding
        for begun in self._key.on_frame(self._timeline.position, self._timeline.end_sample):
            self._begin(begun, self._key.keep_sample)
        if is_fed and self._current is not None:
            self._current.feed(pcm.tobytes(), self._timeline.position)

    def _on_mark(self) -> None:
        """The key is still held."""

    def _on_last(self) -> None:
        ended = self._key.on_end(self._timeline.position)
        if self._current is None:
            self._stream.event(Final(ended.position, ended.utterance, text="", speech_ms=0, engine_ms=0.0))
            return
        self._current.feed(self._decoder.flush().tobytes(), self._timeline.position)
        self._stop(ended)

    def _release(self) -> None:
        """Nothing is held."""
