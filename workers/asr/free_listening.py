"""`auto` and `realtime`: utterances are found by their sound, any number on one stream."""

from __future__ import annotations

from collections.abc import Sequence

from shared.link.messages import OpenAsr, SpeechEnd, SpeechHeld, SpeechStart
from shared.worker.service import Stream
from workers.asr.endpoint import Begun, Decision, Ended, Endpoint, Held
from workers.asr.listening import Listening
from workers.asr.opus import Pcm
from workers.asr.sound import Sound
from workers.asr.timeline import SAMPLES_PER_MS, WINDOW_SAMPLES
from workers.asr.utterance import Recognition, Utterance
from workers.asr.vad import VoiceDetector, Windower


class FreeListening(Listening):
    """Asks the voice detector about every frame before it takes the next."""

    def __init__(self, stream: Stream, spec: OpenAsr, recognition: Recognition, detector: VoiceDetector) -> None:
        super().__init__(stream, spec, recognition)
        start_sample = self._timeline.end_sample
        self._endpoint = Endpoint(spec.vad, spec.utterance, start_sample)
        self._windower = Windower(start_sample)
        self._sound = Sound()
        self._detector = detector
        self._voice = detector.open()
        self._is_fresh = True
        self._window_end = 0
        self._from_sample = 0
        """Where the current utterance begins."""
        self._told: int | None = None
        """Position of the last decision that was told."""
        self._ending: tuple[Utterance, int | None] | None = None
        """Whose end an upstream has found, at which sample."""

    def on_endpoint(self, utterance: Utterance, at_ms: int | None) -> bool:
        if utterance is not self._current or self._is_over:
            return False
        at_sample = None if at_ms is None else self._from_sample + max(0, at_ms) * SAMPLES_PER_MS
        self._ending = (utterance, at_sample)
        self._end_as_told()
        return True

    @property
    def _is_busy(self) -> bool:
        return self._voice.is_out

    @property
    def _keep_sample(self) -> int:
        return self._endpoint.keep_sample

    def _on_pcm(self, pcm: Pcm) -> None:
        self._sound.add(self._timeline.end_sample - len(pcm), pcm)
        if self._current is not None:
            self._current.feed(pcm.tobytes(), self._timeline.position)
        self._window_end = self._windower.next_sample + WINDOW_SAMPLES
        windows = self._windower.push(pcm)
        if windows:
            self._detector.submit(self._voice, windows, self._is_fresh, self._on_probabilities, self._fail)
            self._is_fresh = False

    def _on_probabilities(self, probabilities: Sequence[float]) -> None:
        if self._is_over:
            return
        for number, probability in enumerate(probabilities):
            window_end = self._window_end + number * WINDOW_SAMPLES
            if self._current is not None:
                self._endpoint.owner = self._current.end_owner
            position, frame_end = self._timeline.position, self._timeline.end_sample
            self._act(self._endpoint.on_window(probability, window_end, position, frame_end))
        self._end_as_told()
        self._sound.trim(self._endpoint.sound_sample)
        self._credit()
        self._pump()

    def _on_mark(self) -> None:
        self._act(self._endpoint.on_mark(self._timeline.position, self._timeline.end_sample))
        self._restart()

    def _on_last(self) -> None:
        if self._current is not None:
            self._current.feed(self._decoder.flush().tobytes(), self._timeline.position)
        self._act(self._endpoint.on_end(self._timeline.position, self._timeline.end_sample))

    def _act(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self._told = decision.position
            match decision:
                case Begun(position, utterance, from_sample):
                    self._from_sample = from_sample
                    self._stream.event(SpeechStart(position, utterance))
                    self._begin(decision, self._endpoint.keep_sample, self._sound.since(from_sample))
                case Held(position, utterance):
                    self._stream.event(SpeechHeld(position, utterance))
                case Ended(position, utterance, speech_ms):
                    self._stream.event(SpeechEnd(position, utterance, speech_ms))
                    self._stop(decision)
                    if decision.reason != "upstream":
                        self._restart()

    def _end_as_told(self) -> None:
        """Once the frames so far are decided on, and at a position of its own: whoever replays goes by positions."""
        position = self._timeline.position
        if self._ending is None or self._is_busy or position == self._told:
            return
        (utterance, at_sample), self._ending = self._ending, None
        if utterance is self._current:
            self._act(self._endpoint.on_told(at_sample, position, self._timeline.end_sample))

    def _restart(self) -> None:
        """The search starts afresh here, as it would on a stream that opens here."""
        self._windower.restart(self._timeline.end_sample)
        self._is_fresh = True

    def _release(self) -> None:
        self._detector.release(self._voice)
