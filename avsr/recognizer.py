"""The engine: a model and the streams it captions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from avsr.bundle import Bundle, load_bundle
from avsr.decode import BeamSearch, Captioner, CaptionerInput, CaptionerState, Hotword, Tokenizer, WordLm
from avsr.errors import BundleError, ConfigError, DeviceError, InputError
from avsr.features import LogMel, LogMelState
from avsr.frontend import DEFAULT_PATIENCE_S, FrontEnd, FrontEndState, SenseTicks
from avsr.lips import FaceMesh, Landmarker, LipTracker
from avsr.media import AudioPacket, open_media
from avsr.model import AvsrModel, ModelState
from avsr.types import SAMPLE_RATE, TICK_S, TICK_US, AvChunk, Caption, Modality, Transcript, VideoFrame

TICK_MS = TICK_US // 1000
MAX_FACES = 2
"""Faces looked at in each picture: the speaker's and one more."""


def load_model(model: str | Path | None = None, *, device: str = "cpu", threads: int | None = None) -> Recognizer:
    """Load a model bundle: the default one, one by name (see ``avsr models``), or a directory.

    Args:
        model: name or directory; None for the default that comes with the package.
        device: "cpu" or "cuda".
        threads: processor threads for the network, for the whole process; None leaves torch's choice.

    Raises:
        BundleError: the bundle is missing, damaged, of another version or does not fit this code.
        DeviceError: the device is not there.
    """
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"{device!r} is no device that avsr knows; use 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to this PyTorch; use the device 'cpu'")
    if threads is not None:
        torch.set_num_threads(threads)
    bundle = load_bundle(model)
    num_pieces, vocab_size = Tokenizer(bundle.tokenizer_bytes).vocab_size, bundle.config.model.vocab_size
    if num_pieces != vocab_size:
        raise BundleError(f"{bundle.path}: the tokenizer has {num_pieces} pieces, config.yaml says {vocab_size}")
    network = AvsrModel(bundle.config.model)
    try:
        network.load_state_dict(bundle.state_dict())
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}: the weights do not fit the sizes in config.yaml: {error}") from error
    return Recognizer(bundle, network.to(device).eval())


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that a stream has learnt so far: every stage's state, and when a picture without a time is shown."""

    front: FrontEndState
    mel: LogMelState
    model: ModelState
    captioner: CaptionerState
    next_frame_us: int = 0


class Recognizer:
    """A loaded model; makes streams. Holds only weights and settings, so it serves any number of streams."""

    def __init__(self, bundle: Bundle, network: AvsrModel) -> None:
        self.bundle = bundle
        self.network = network
        self.tokenizer = Tokenizer(bundle.tokenizer_bytes)
        self.log_mel = LogMel(bundle.config.features)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.network.fused_head.weight.device

    @property
    def chunk_choices_ms(self) -> tuple[int, ...]:
        """The chunk lengths that the model was trained for."""
        return tuple(ticks * TICK_MS for ticks in self.bundle.config.model.chunk_sizes)

    def stream(
        self,
        *,
        modality: Modality = "av",
        chunk_ms: int | None = None,
        beam: int | None = None,
        lm: WordLm | None = None,
        hotwords: Sequence[Hotword] = (),
        patience_s: float = DEFAULT_PATIENCE_S,
        landmarker: Landmarker | None = None,
    ) -> Stream:
        """Open a stream: push sound and pictures, read captions.

        Args:
            modality: which senses to use: "av", "audio" or "video".
            chunk_ms: 160, 320 or 640: less is sooner, more is surer; None for the model's default.
            beam: hypotheses kept by the search; None for the model's default.
            lm: a word n-gram model to fuse.
            hotwords: words or phrases to listen for.
            patience_s: how long, in stream time, one sense waits for the other before it goes on alone.
            landmarker: finds the faces; FaceMesh by default. The stream closes it.

        Raises:
            ConfigError: a setting is out of range.
        """
        if modality not in ("av", "audio", "video"):
            raise ConfigError(f"modality {modality!r} is unknown; use 'av', 'audio' or 'video'")
        config = self.bundle.config
        chunk_ms = config.default_chunk_ms if chunk_ms is None else chunk_ms
        if chunk_ms not in self.chunk_choices_ms:
            choices = ", ".join(str(choice) for choice in self.chunk_choices_ms)
            raise ConfigError(
                f"chunk_ms {chunk_ms} is not one that {config.name} was trained for; use one of {choices}"
            )
        if beam is not None and beam < 1:
            raise ConfigError(f"beam {beam} is too narrow; use 1 or more")
        if not patience_s > 0:
            raise ConfigError(f"patience_s {patience_s} must be above 0")
        decode = config.decode if beam is None else config.decode.model_copy(update={"beam_size": beam})
        search = BeamSearch(decode, self.tokenizer, lm=lm, hotwords=hotwords)
        if modality != "audio" and landmarker is None:
            landmarker = FaceMesh(MAX_FACES)
        tracker = None if modality == "audio" or landmarker is None else LipTracker(landmarker)
        front = FrontEnd(modality, tracker, patience_s)
        return Stream(self, front, Captioner(decode, self.tokenizer, search), chunk_ms // TICK_MS, landmarker)

    def transcribe(
        self,
        source: str | Path | BinaryIO,
        *,
        modality: Modality = "av",
        chunk_ms: int | None = None,
        beam: int | None = None,
        on_progress: Callable[[float, float | None], None] | None = None,
        on_caption: Callable[[Caption], None] | None = None,
    ) -> Transcript:
        """Caption a whole file, URL or pipe: a stream that is fed as fast as it can take it.

        Args:
            source: path, URL, open binary file, or "-" for standard input.
            modality: as for `stream`.
            chunk_ms: as for `stream`.
            beam: as for `stream`.
            on_progress: called with the position and the duration (None if unknown), seconds.
            on_caption: called with every caption, partial or final, as it is made.

        Raises:
            MediaError: the source cannot be opened or has no track that the modality can use.
            ConfigError: a setting is out of range.
        """
        begun = time.perf_counter()
        finals: list[Caption] = []

        def collect(captions: Iterator[Caption]) -> None:
            for caption in captions:
                if caption.is_final:
                    finals.append(caption)
                if on_caption:
                    on_caption(caption)

        with (
            open_media(source, modality) as media,
            self.stream(modality=modality, chunk_ms=chunk_ms, beam=beam) as stream,
        ):
            for packet in media:
                stream.accept(packet)
                collect(stream.captions())
                if on_progress:
                    on_progress(media.position_s, media.duration_s)
            stream.finish()
            collect(stream.captions())
            duration_s, warnings = stream.duration_s, (*media.warnings, *stream.losses())
            name = media.name
        elapsed_s = time.perf_counter() - begun
        return Transcript(
            segments=tuple(finals),
            duration_s=duration_s,
            model=self.bundle.config.name,
            version=self.bundle.config.version,
            modality=modality,
            rtf=elapsed_s / duration_s if duration_s else None,
            source=name,
            warnings=warnings,
        )


class Stream:
    """One speaker, live: push whatever arrives, in packets of any size, and read captions as they come.

    Times ``t`` are seconds since the start of the stream; a packet without one goes on where the last one ended (25
    pictures a second for video). However the input is cut into packets, the finals are the same, as long as neither
    sense lags more than ``patience_s`` behind the other. Close it (or use ``with``): it owns a face tracker.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        front: FrontEnd,
        captioner: Captioner,
        chunk_ticks: int,
        landmarker: Landmarker | None,
    ) -> None:
        self._recognizer, self._front, self._captioner = recognizer, front, captioner
        self._chunk_ticks, self._landmarker = chunk_ticks, landmarker
        self._captions: deque[Caption] = deque()
        self._finished = False
        self.state = StreamState(
            front.init_state(),
            recognizer.log_mel.init_state(),
            recognizer.network.init_state(),
            captioner.init_state(),
        )

    def accept_audio(self, samples: npt.NDArray[Any], sample_rate: int, t: float | None = None) -> None:
        """Push sound: f32 in [-1, 1] or i16, (n,) or (n, channels), of any rate.

        Raises:
            InputError: the samples, rate or time cannot be used, or the stream is finished.
        """
        self.accept(AudioPacket(samples, sample_rate, t))

    def accept_video(self, rgb: npt.NDArray[np.uint8], t: float | None = None) -> None:
        """Push a picture: u8 (H, W, 3), upright.

        Raises:
            InputError: the picture or its time cannot be used, or the stream is finished.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise InputError(f"a picture must be u8 (H, W, 3), not {rgb.dtype} {rgb.shape}; convert it to RGB first")
        if t is not None and not np.isfinite(t):
            raise InputError(f"a picture has the time {t}; give seconds since the start, or None")
        self.accept(VideoFrame(rgb, self.state.next_frame_us if t is None else round(t * 1e6)))

    def accept(self, packet: AudioPacket | VideoFrame) -> None:
        """Push sound or a picture as the media layer delivers it."""
        if self._finished:
            raise InputError("the stream is finished; open another one with Recognizer.stream()")
        arrived = time.perf_counter()
        self.state = replace(self.state, front=self._front.accept(packet, self.state.front))
        if isinstance(packet, VideoFrame):
            self.state = replace(self.state, next_frame_us=packet.pts_us + TICK_US)
        self._pump(arrived)

    def captions(self) -> Iterator[Caption]:
        """Yield what is new since the last call. Partials that newer ones overtook unread are dropped; finals never."""
        while self._captions:
            yield self._captions.popleft()

    def finish(self) -> None:
        """Nothing more will arrive: flush every stage, after which ``captions`` gives the last finals."""
        if self._finished:
            return
        self._finished = True
        arrived = time.perf_counter()
        self.state = replace(self.state, front=self._front.end(self.state.front))
        self._pump(arrived)
        self._publish(self._captioner.flush(self.state.captioner), arrived)
        self.close()

    @property
    def duration_s(self) -> float:
        """Stream time that has been recognised, seconds."""
        return self.state.front.next_tick * TICK_S

    def losses(self) -> tuple[str, ...]:
        """Say, for people, what was pushed but could not be used: it came twice, backwards or too late."""
        audio, video = self.state.front.audio, self.state.front.video
        found = []
        if audio.dropped_samples:
            found.append(f"{audio.dropped_samples / SAMPLE_RATE:.2f} s of sound came twice or too late and was dropped")
        if video.dropped_frames:
            found.append(f"{video.dropped_frames} pictures came out of order and were dropped")
        return tuple(found)

    def close(self) -> None:
        """Release the face tracker; what is not finished is lost."""
        self._finished = True
        if self._landmarker:
            self._landmarker.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pump(self, arrived: float) -> None:
        """Recognise every chunk that is ready."""
        while True:
            ticks, front = self._front.take(self._chunk_ticks, self.state.front)
            self.state = replace(self.state, front=front)
            if ticks is None:
                return
            captions, self.state = self._recognise(ticks, self.state)
            self._publish(captions, arrived)

    @torch.inference_mode()
    def _recognise(self, ticks: SenseTicks, state: StreamState) -> tuple[tuple[Caption, ...], StreamState]:
        recognizer, visible = self._recognizer, ticks.visible
        mel, mel_state = recognizer.log_mel.step(torch.from_numpy(ticks.samples), state.mel)
        device = recognizer.device
        chunk = AvChunk(
            mel=mel[None].to(device),
            lips=torch.from_numpy(np.stack([lip.gray for lip in ticks.lips]))[None].to(device),
            heard=torch.from_numpy(ticks.heard)[None].to(device),
            visible=torch.from_numpy(visible)[None].to(device),
            start_tick=ticks.start_tick,
        )
        log_probs, model_state = recognizer.network.step(chunk, state.model, self._chunk_ticks)
        captions, captioner_state = self._captioner.step(
            CaptionerInput(
                log_probs=log_probs.values[0].cpu().numpy(),
                audio_weight=log_probs.audio_weight[0].cpu().numpy(),
                visible=visible,
                start_tick=ticks.start_tick,
                loudness_db=_or_nan([ticks.loudness_db(i) for i in range(ticks.num_ticks)]),
                mouth_opening=_or_nan([lip.mouth_opening for lip in ticks.lips]),
            ),
            state.captioner,
        )
        return captions, replace(state, mel=mel_state, model=model_state, captioner=captioner_state)

    def _publish(self, captions: tuple[Caption, ...], arrived: float) -> None:
        for caption in captions:
            if self._captions and not self._captions[-1].is_final:
                self._captions.pop()
            latency_ms = (time.perf_counter() - arrived) * 1000
            self._captions.append(replace(caption, latency_ms=latency_ms))


def _or_nan(values: list[float | None]) -> npt.NDArray[np.float32]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)
