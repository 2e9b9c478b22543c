"""A live stream: sound and pictures in, captions out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from avsr.decode import Captioner, CaptionerInput, CaptionerState, Hotword
from avsr.errors import InputError
from avsr.features import LogMel, LogMelState
from avsr.frontend import FrontEnd, FrontEndState, SenseTicks, join_ticks
from avsr.lips import Landmarker
from avsr.lips.landmarks import shrink_to
from avsr.media import AudioPacket, Packet
from avsr.media.align import is_time
from avsr.media.rgb import MAX_SIDE_PIXELS
from avsr.model import ModelState
from avsr.traced import map_tensors
from avsr.types import SAMPLE_RATE, TICK_S, TICK_US, AvChunk, Caption, LogProbs, Modality, Sense, VideoFrame

SLEEP_TICKS = 750
"""After this long without either sense (30 s) the network is no longer run; it restarts from its initial state.

Its left context is far shorter than that, so no memory is lost.
"""
MAX_UNREAD_FINALS = 10_000
"""Unread finals that are kept; beyond that the oldest are dropped and counted."""

TOO_LOUD = 8.0
"""Samples beyond this many times full scale are a caller's mistake: integers converted to float but not scaled."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a stream's state depends on: only a stream with equal settings can continue from it.

    ``avsr`` is the version of the package; ``model`` the bundle's ``identity``; ``lm`` the language model's ``sha256``,
    None without one.
    """

    avsr: str
    model: str
    modality: Modality
    chunk_ticks: int
    lm: str | None = None
    hotwords: tuple[Hotword, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamState:
    """Everything a stream knows so far: every stage's state, and the ticks of the chunk that is being filled.

    ``waiting`` holds those ticks, one by one. ``absent_ticks`` is how many ticks in a row had neither sense, at most
    ``SLEEP_TICKS``. ``heard_ticks`` counts the ticks with sound louder than a muted microphone's, ``visible_ticks``
    those with a face, since the start. ``loudest`` is the largest absolute sample, 1 being full scale.
    """

    settings: StreamSettings
    front: FrontEndState
    mel: LogMelState
    model: ModelState
    captioner: CaptionerState
    waiting: tuple[SenseTicks, ...] = ()
    absent_ticks: int = 0
    heard_ticks: int = 0
    visible_ticks: int = 0
    loudest: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all tensors on the CPU: the reader may have no GPU."""
        on_cpu = replace(self, model=map_tensors(self.model, torch.Tensor.cpu))
        return StreamState, tuple(getattr(on_cpu, each.name) for each in fields(self))


class Network(Protocol):
    """What a stream needs of the network: `AvsrModel` has it, and so has a batcher that serves many streams at once."""

    @property
    def device(self) -> torch.device:
        """Where chunks are wanted."""
        ...

    def init_state(self) -> ModelState:
        """Return the state of a stream that has not begun."""
        ...

    def step(self, chunk: AvChunk, state: ModelState, chunk_ticks: int) -> tuple[LogProbs, ModelState]:
        """Do as `AvsrModel.step`, for one stream."""
        ...


class Stream:
    """One speaker, live: push whatever arrives, in packets of any size, and read captions as they come.

    Times ``t`` are seconds since the start of the stream. A packet without one continues where the last one ended (25
    pictures a second for video), or at the tick up to which its sense was passed over. However the input is cut into
    packets, the finals are the same, as long as neither sense lags more than ``patience_s`` behind the other (after a
    gap in the pictures, ``patience_s`` - 0.2 s). Close it (or use ``with``): it owns a face tracker.

    Threads may share it, for instance one that pushes sound and one that pushes pictures: calls exclude each other.
    """

    def __init__(
        self,
        network: Network,
        log_mel: LogMel,
        front: FrontEnd,
        captioner: Captioner,
        settings: StreamSettings,
        landmarker: Landmarker | None,
    ) -> None:
        self._network, self._log_mel, self._front, self._captioner = network, log_mel, front, captioner
        self._settings, self._chunk_ticks, self._landmarker = settings, settings.chunk_ticks, landmarker
        self._lock = threading.RLock()
        self._captions: deque[Caption] = deque()
        self._num_unread_dropped = 0
        self._finished = False
        self.on_ticks: Callable[[SenseTicks], None] | None = None
        """Called with every chunk of both senses as it is recognised: for level meters and the like."""
        self._state = StreamState(
            settings, front.init_state(), log_mel.init_state(), network.init_state(), captioner.init_state()
        )

    @property
    def state(self) -> StreamState:
        """Everything the stream knows; another stream of the same model and settings can continue from it.

        The other stream may be on another device. Setting it raises InputError if it comes from a stream with other
        settings, or from one that was finished.
        """
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        if not isinstance(state, StreamState):
            raise InputError(f"a stream resumes from the `state` of another stream, not from {type(state).__name__}")
        for name, theirs, ours in (
            (each.name, getattr(state.settings, each.name, None), getattr(self._settings, each.name))
            for each in fields(StreamSettings)
        ):
            if theirs != ours:
                raise InputError(
                    f"the state is of a stream with {name} {theirs!r}, this one has {ours!r}; open one like it"
                )
        if state.front.ended:
            raise InputError("the state is of a finished stream; save it before `finish` to resume from it")
        device = self._network.device
        with self._lock:
            self._state = replace(state, model=map_tensors(state.model, lambda tensor: tensor.to(device)))

    def accept_audio(self, samples: npt.NDArray[Any], sample_rate: int, t: float | None = None) -> None:
        """Push sound: f32 in [-1, 1] or i16, (n,) or (n, channels), of any rate.

        Raises:
            InputError: the samples, rate or time cannot be used, or the stream is finished.
        """
        self.accept(AudioPacket(samples, sample_rate, t))

    def accept_video(self, rgb: npt.NDArray[np.uint8], t: float | None = None) -> None:
        """Push a picture: u8 (H, W, 3), upright. It is copied, and a large one shrunk to ``MAX_SIDE_PIXELS``.

        Raises:
            InputError: the picture or its time cannot be used, or the stream is finished.
        """
        arrived = time.perf_counter()
        rgb = np.asarray(rgb)
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise InputError(f"a picture must be u8 (H, W, 3), not {rgb.dtype} {rgb.shape}; convert it to RGB first")
        if t is not None and not is_time(t):
            raise InputError(f"a picture has the time {t!r}; give seconds since the start, or None")
        # A copy: it waits for its sound, and cameras like to use their buffers again.
        rgb = np.array(shrink_to(np.ascontiguousarray(rgb), MAX_SIDE_PIXELS))
        with self._lock:
            video = self.state.front.video
            ended_us = 0 if video.latest is None else video.latest.pts_us + TICK_US
            next_us = max(ended_us, video.next_tick * TICK_US)
            self._accept(VideoFrame(rgb, next_us if t is None else round(t * 1e6)), arrived)

    def accept(self, packet: Packet) -> None:
        """Push sound or a picture as the media layer delivers it.

        An exception from the network or the face tracker passes through and closes the stream.

        Raises:
            InputError: the packet cannot be used, or the stream is finished.
        """
        arrived = time.perf_counter()
        with self._lock:
            self._accept(packet, arrived)

    def pass_over(self, sense: Sense, t: float) -> None:
        """Stop waiting for what a sense may still deliver before ``t``, seconds: its device is lost, or paused.

        Raises:
            InputError: the time cannot be used, or the stream is finished.
        """
        if sense not in ("audio", "video"):
            raise InputError(f"the modality {sense!r} cannot be passed over; use 'audio' or 'video'")
        if not is_time(t):
            raise InputError(f"the {sense} cannot be passed over up to the time {t!r}; give seconds since the start")
        with self._lock:
            self._check_open()
            front = self._front.pass_over(sense, round(t * 1e6) // TICK_US, self.state.front)
            self._state = replace(self.state, front=front)
            self._pump(time.perf_counter())

    def captions(self) -> Iterator[Caption]:
        """Yield what is new since the last call.

        An unread partial is dropped when a newer caption comes. Finals are kept, up to ``MAX_UNREAD_FINALS``.
        """
        while True:
            with self._lock:
                if not self._captions:
                    return
                caption = self._captions.popleft()
            yield caption

    def finish(self) -> None:
        """Declare that nothing more will arrive: flush every stage, after which ``captions`` gives the last captions.

        They are finals; or, if the last partial shown came to nothing, an empty partial that takes it back.
        """
        with self._lock:
            if self._finished:
                return
            self._finished = True
            arrived = time.perf_counter()
            self._state = replace(self.state, front=self._front.end(self.state.front))
            self._pump(arrived)
            self._publish(self._captioner.flush(self.state.captioner), arrived)
            self.close()

    @property
    def duration_s(self) -> float:
        """Stream time that has been recognised, seconds."""
        return (self.state.front.next_tick - len(self.state.waiting)) * TICK_S

    def notes(self) -> tuple[str, ...]:
        """Return messages for people: which sense was never there, and what was pushed but could not be used."""
        state, found = self.state, []
        audio, video = state.front.audio, state.front.video
        if self._front.modality != "audio" and not state.visible_ticks:
            found.append("no face was seen" if video.latest else "there was no video")
        if self._front.modality != "video" and not state.heard_ticks:
            found.append("no sound was heard")
        if state.loudest > TOO_LOUD:
            found.append(f"the audio is up to {state.loudest:.0f} times full scale; give i16, or f32 in [-1, 1]")
        if audio.dropped_samples:
            found.append(f"{audio.dropped_samples / SAMPLE_RATE:.2f} s of audio came twice or too late and was dropped")
        if video.dropped_frames:
            found.append(f"{video.dropped_frames} video frames came out of order or too late and were dropped")
        if self._num_unread_dropped:
            found.append(f"{self._num_unread_dropped} finals were never read and were dropped")
        return tuple(found)

    def close(self) -> None:
        """Release the face tracker; whatever was not flushed by ``finish`` is lost."""
        with self._lock:
            self._finished = True
            if self._landmarker:
                self._landmarker.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, packet: Packet, arrived: float) -> None:
        self._check_open()
        self._state = replace(self.state, front=self._front.accept(packet, self.state.front))
        self._pump(arrived)

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("the stream is finished; open another one with Recognizer.stream()")

    def _pump(self, arrived: float) -> None:
        """Find the lips of every tick that is ready, and recognise every chunk that is complete.

        Finding lips is most of the work. Done tick by tick while a chunk fills, it does not delay the chunk's captions.
        """
        try:
            self._recognise_all(arrived)
        except Exception:
            self.close()  # else whatever is pushed from now on would pile up behind the tick that failed
            raise

    def _recognise_all(self, arrived: float) -> None:
        while True:
            front, waiting = self.state.front, self.state.waiting
            if self.state.absent_ticks >= SLEEP_TICKS and not waiting:
                front = self._front.skip_absence(self._chunk_ticks, front)
            tick, front = self._front.take(1, front)
            if tick is not None:
                waiting = (*waiting, tick)
            is_last = tick is None and front.ended and len(waiting) > 0
            is_chunk = is_last or len(waiting) == self._chunk_ticks
            state = replace(self.state, front=front, waiting=() if is_chunk else waiting)
            if not is_chunk:
                self._state = state
                if tick is None:
                    return
                continue
            ticks = join_ticks(waiting)
            if self.on_ticks is not None:
                self.on_ticks(ticks)
            captions, self._state = self._recognise(ticks, state)
            self._publish(captions, arrived)

    def _recognise(self, ticks: SenseTicks, state: StreamState) -> tuple[tuple[Caption, ...], StreamState]:
        """Take one chunk through the network and the search, unless both senses have long been absent."""
        state = replace(
            state,
            heard_ticks=state.heard_ticks + ticks.num_audible,
            loudest=max(state.loudest, float(np.abs(ticks.samples).max())),
            visible_ticks=state.visible_ticks + int(ticks.visible.sum()),
        )
        is_absent = not (ticks.heard.any() or ticks.visible.any())
        was_asleep = state.absent_ticks >= SLEEP_TICKS
        if is_absent and was_asleep:
            return (), state
        if was_asleep:
            state = self._awakened(ticks.start_tick, state)
        captions, state = self._caption(ticks, state)
        if not is_absent:
            return captions, replace(state, absent_ticks=0)
        absent_ticks = min(state.absent_ticks + ticks.num_ticks, SLEEP_TICKS)
        if absent_ticks == SLEEP_TICKS:
            last, captioner = self._captioner.rest(state.captioner)
            captions += last
            state = replace(state, captioner=captioner)
        return captions, replace(state, absent_ticks=absent_ticks)

    def _awakened(self, start_tick: int, state: StreamState) -> StreamState:
        captioner = self._captioner.wake(start_tick, state.captioner)
        mel = replace(self._log_mel.init_state(), level=state.mel.level)  # the microphone is as quiet as before
        return replace(state, mel=mel, model=self._network.init_state(), captioner=captioner)

    @torch.inference_mode()
    def _caption(self, ticks: SenseTicks, state: StreamState) -> tuple[tuple[Caption, ...], StreamState]:
        mel, mel_state = self._log_mel.step(torch.from_numpy(ticks.samples), state.mel)
        visible, device = ticks.visible, self._network.device
        chunk = AvChunk(
            mel=mel[None].to(device),
            lips=torch.from_numpy(np.stack([lip.gray for lip in ticks.lips]))[None].to(device),
            heard=torch.from_numpy(ticks.heard)[None].to(device),
            visible=torch.from_numpy(visible)[None].to(device),
            start_tick=ticks.start_tick,
        )
        openings, levels_db = ticks.mouth_and_voice()
        log_probs, model_state = self._network.step(chunk, state.model, self._chunk_ticks)
        captions, captioner_state = self._captioner.step(
            CaptionerInput(
                log_probs=log_probs.values[0].cpu().numpy(),
                audio_weight=log_probs.audio_weight[0].cpu().numpy(),
                heard=ticks.heard,
                visible=visible,
                start_tick=ticks.start_tick,
                loudness_db=levels_db,
                mouth_opening=openings,
            ),
            state.captioner,
        )
        return captions, replace(state, mel=mel_state, model=model_state, captioner=captioner_state)

    def _publish(self, captions: tuple[Caption, ...], arrived: float) -> None:
        for caption in captions:
            if self._captions and not self._captions[-1].is_final:
                self._captions.pop()
            elif len(self._captions) >= MAX_UNREAD_FINALS:
                self._captions.popleft()
                self._num_unread_dropped += 1
            latency_ms = (time.perf_counter() - arrived) * 1000
            self._captions.append(replace(caption, latency_ms=latency_ms))
