"""Sound and pictures come in as they arrive; ticks with both senses side by side go out.

    AudioPacket ──► AudioAligner ──► sound ───┐
                                              ├──► take: n ticks of samples and lip frames
    VideoFrame ───► VideoAligner ──► pictures ┘         (pictures ──► LipTracker, told how loud the tick is)

One sense waits for the other, but only for ``patience_s``: a sense that is further behind counts as absent until it has
caught up. Waiting is measured in stream time, never by the wall clock, so results are reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from avsr.lips import LipInput, LipState, LipTracker
from avsr.media import (
    AlignedVideo,
    AudioAligner,
    AudioAlignerState,
    AudioPacket,
    Packet,
    VideoAligner,
    VideoAlignerState,
)
from avsr.media.align import MAX_HOLD_US, SoundPart, end_of, take_sound
from avsr.types import (
    LIP_SIZE,
    MUTED_DB,
    TICK_S,
    TICK_SAMPLES,
    TICK_US,
    BoolArray,
    FloatArray,
    LipFrame,
    Modality,
    Sense,
    VideoTick,
    level_db,
)

DEFAULT_PATIENCE_S = 2.0
MUTED_TICKS = 5
"""After this many ticks in a row below ``MUTED_DB`` (0.2 s), sound counts as absent until it is louder again."""


@dataclass(frozen=True, slots=True)
class SenseTicks:
    """n ticks from ``start_tick`` on: ``samples`` f32 (640 n,), ``heard`` bool (n,), ``lips`` one ``LipFrame`` each."""

    start_tick: int
    samples: FloatArray
    heard: BoolArray
    lips: tuple[LipFrame, ...]

    @property
    def num_ticks(self) -> int:
        """Ticks in this piece (n)."""
        return len(self.heard)

    @property
    def visible(self) -> BoolArray:
        """Where a mouth is seen, bool (n,)."""
        return np.array([lip.visible for lip in self.lips], dtype=np.bool_)

    def loudness_db(self, index: int) -> float | None:
        """RMS of one tick in dB of full scale; None where nothing was heard."""
        if not self.heard[index]:
            return None
        return level_db(self.samples[index * TICK_SAMPLES : (index + 1) * TICK_SAMPLES])

    @property
    def num_audible(self) -> int:
        """Number of ticks whose sound is louder than a muted microphone's."""
        levels_db = (self.loudness_db(index) for index in range(self.num_ticks))
        return sum(level_db is not None and level_db >= MUTED_DB for level_db in levels_db)

    def mouth_and_voice(self) -> tuple[list[float | None], list[float | None]]:
        """How open the mouth and how loud the sound is, tick by tick; None where not seen or heard."""
        return [lip.mouth_opening for lip in self.lips], [self.loudness_db(index) for index in range(self.num_ticks)]


def join_ticks(pieces: Sequence[SenseTicks]) -> SenseTicks:
    """Return consecutive pieces as one; no pieces give no ticks, from tick 0 on."""
    return SenseTicks(
        start_tick=pieces[0].start_tick if pieces else 0,
        samples=np.concatenate([np.zeros(0, np.float32), *(piece.samples for piece in pieces)]),
        heard=np.concatenate([np.zeros(0, np.bool_), *(piece.heard for piece in pieces)]),
        lips=tuple(lip for piece in pieces for lip in piece.lips),
    )


@dataclass(frozen=True, slots=True)
class FrontEndState:
    """What has arrived and has not been taken yet; ``next_tick`` is taken next.

    ``sound`` and ``pictures`` are the aligners' output from ``next_tick`` on; a part that is silence may begin earlier.
    Once everything that is ready was taken, at most ``patience_s`` of it is left. ``muted_ticks`` is how many ticks in
    a row up to ``next_tick`` were muted, at most ``MUTED_TICKS``.
    """

    audio: AudioAlignerState
    video: VideoAlignerState
    lips: LipState | None
    sound: tuple[SoundPart, ...] = ()
    pictures: tuple[AlignedVideo, ...] = ()
    next_tick: int = 0
    muted_ticks: int = 0
    ended: bool = False

    @property
    def sound_end(self) -> int:
        """The tick at which the queued sound ends."""
        return end_of(self.sound[-1]) if self.sound else self.next_tick

    @property
    def pictures_end(self) -> int:
        """The tick at which the queued pictures end."""
        return self.pictures[-1].stop_tick if self.pictures else self.next_tick


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Aligns both senses on ticks and finds the lips. ``tracker`` None: no lips are looked for (modality "audio")."""

    modality: Modality
    tracker: LipTracker | None
    patience_s: float = DEFAULT_PATIENCE_S
    _audio: AudioAligner = field(default_factory=AudioAligner)
    _video: VideoAligner = field(default_factory=VideoAligner)

    def init_state(self) -> FrontEndState:
        """Return the state of a stream that has not begun."""
        lips = self.tracker.init_state() if self.tracker else None
        return FrontEndState(self._audio.init_state(), self._video.init_state(), lips)

    def accept(self, packet: Packet, state: FrontEndState) -> FrontEndState:
        """Take in what arrived; packets of a sense that the modality leaves out are ignored.

        Raises:
            InputError: the packet cannot be used.
        """
        if isinstance(packet, AudioPacket):
            if self.modality == "video":
                return state
            sound, audio = self._audio.step(packet, state.audio)
            return replace(state, audio=audio, sound=state.sound + sound)
        if self.modality == "audio":
            return state
        pictures, video = self._video.step(packet, state.video)
        return replace(state, video=video, pictures=_joined(state.pictures, pictures))

    def end(self, state: FrontEndState) -> FrontEndState:
        """Declare that nothing more will arrive, so that everything can be taken."""
        sound = self._audio.flush(state.audio)
        pictures = self._video.flush(state.video)
        return replace(state, sound=state.sound + sound, pictures=_joined(state.pictures, pictures), ended=True)

    def take(self, num_ticks: int, state: FrontEndState) -> tuple[SenseTicks | None, FrontEndState]:
        """Return the next ``num_ticks`` ticks, or None while they are not all ready.

        After `end`, what is left may be fewer; None then means that there are none.
        """
        num_ready = self._ready_tick(state) - state.next_tick
        if num_ready < (1 if state.ended else num_ticks):
            return None, state
        num_ticks = min(num_ticks, num_ready)
        start_tick, stop_tick = state.next_tick, state.next_tick + num_ticks
        if not state.ended:
            state = self._pass_over_both(stop_tick, state)
        samples, heard, sound = take_sound(state.sound, start_tick, stop_tick)
        heard, muted_ticks = _unmuted(samples, heard, state.muted_ticks)
        shown, pictures = _take_pictures(state.pictures, start_tick, stop_tick)
        ticks = SenseTicks(start_tick, samples, heard, ())
        lips, lip_state = self._find_lips(shown, ticks, state.lips)
        state = replace(
            state, sound=sound, pictures=pictures, lips=lip_state, next_tick=stop_tick, muted_ticks=muted_ticks
        )
        return replace(ticks, lips=lips), state

    def pass_over(self, sense: Sense, tick: int, state: FrontEndState) -> FrontEndState:
        """Stop waiting for a sense up to ``tick``: what it delivers for earlier ticks from now on is dropped as late.

        Does nothing for a sense that the modality leaves out.
        """
        if sense == "audio" and self.modality != "video" and state.sound_end < tick:
            sound, audio = self._audio.advance(tick, state.audio)
            return replace(state, sound=state.sound + sound, audio=audio)
        if sense == "video" and self.modality != "audio" and state.pictures_end < tick:
            pictures, video = self._video.advance(tick, state.video)
            return replace(state, pictures=_joined(state.pictures, pictures), video=video)
        return state

    def skip_absence(self, chunk_ticks: int, state: FrontEndState) -> FrontEndState:
        """Skip the whole chunks ahead in which neither sense is present, however many, without creating their ticks."""
        first_present = min(_first_sound(state.sound), _first_picture(state.pictures), self._ready_tick(state))
        tick = int(first_present // chunk_ticks) * chunk_ticks
        if tick <= state.next_tick:
            return state
        if not state.ended:
            state = self._pass_over_both(tick, state)
        sound = tuple(part for part in state.sound if end_of(part) > tick)
        pictures = tuple(
            part if part.start_tick >= tick else replace(part, start_tick=tick, shown=None)
            for part in state.pictures
            if part.stop_tick > tick
        )
        return replace(state, sound=sound, pictures=pictures, next_tick=tick, muted_ticks=0)

    def _ready_tick(self, state: FrontEndState) -> int:
        """Return the tick up to which everything can be taken now."""
        ends = state.sound_end, state.pictures_end
        if state.ended:
            return max(ends)
        if self.modality != "av":
            return ends[self.modality == "video"]
        return max(min(ends), max(ends) - round(self.patience_s / TICK_S))

    def _pass_over_both(self, tick: int, state: FrontEndState) -> FrontEndState:
        return self.pass_over("video", tick, self.pass_over("audio", tick, state))

    def _find_lips(
        self, shown: list[VideoTick], ticks: SenseTicks, state: LipState | None
    ) -> tuple[tuple[LipFrame, ...], LipState | None]:
        if self.tracker is None or state is None:
            return tuple(LipFrame(_DARK, ticks.start_tick + i, visible=False) for i in range(ticks.num_ticks)), None
        lips = []
        for index, video in enumerate(shown):
            lip, state = self.tracker.step(LipInput(video, ticks.loudness_db(index)), state)
            lips.append(lip)
        return tuple(lips), state


_DARK = np.zeros((LIP_SIZE, LIP_SIZE), dtype=np.uint8)


def _first_sound(parts: tuple[SoundPart, ...]) -> float:
    return next((part.start_tick for part in parts if not isinstance(part, tuple)), math.inf)


def _first_picture(parts: tuple[AlignedVideo, ...]) -> float:
    """The first tick that may show a picture: one is shown up to ``MAX_HOLD_US`` from its own time."""
    for part in parts:
        ends = [] if part.before is None else [(part.before.pts_us + MAX_HOLD_US) // TICK_US + 1]
        starts = [] if part.after is None else [(part.after.pts_us - MAX_HOLD_US) // TICK_US]
        if any(end > part.start_tick for end in ends):
            return part.start_tick
        if any(start < part.stop_tick for start in starts):
            return max(part.start_tick, starts[0])
    return math.inf


def _joined(pictures: tuple[AlignedVideo, ...], more: AlignedVideo) -> tuple[AlignedVideo, ...]:
    return (*pictures, more) if more.stop_tick > more.start_tick else pictures


def _unmuted(samples: FloatArray, heard: BoolArray, muted_ticks: int) -> tuple[BoolArray, int]:
    """Mark the ticks of a muted microphone as not heard; also return how many muted ticks in a row precede the next."""
    heard = heard.copy()
    for index, tick in enumerate(samples.reshape(-1, TICK_SAMPLES)):
        is_muted = bool(heard[index]) and level_db(tick) < MUTED_DB
        muted_ticks = min(muted_ticks + 1, MUTED_TICKS) if is_muted else 0
        heard[index] &= muted_ticks < MUTED_TICKS
    return heard, muted_ticks


def _take_pictures(
    parts: tuple[AlignedVideo, ...], start_tick: int, stop_tick: int
) -> tuple[list[VideoTick], tuple[AlignedVideo, ...]]:
    """Cut [start_tick, stop_tick) off the front of ``parts``; no picture where they end before."""
    shown = {tick: VideoTick(tick, None) for tick in range(start_tick, stop_tick)}
    rest: list[AlignedVideo] = []
    for part in parts:
        head = replace(part, stop_tick=min(part.stop_tick, max(part.start_tick, stop_tick)))
        shown |= {video.tick: video for video in head}
        if head.stop_tick < part.stop_tick:
            rest.append(replace(part, start_tick=head.stop_tick, shown=head.last_shown))
    return list(shown.values()), tuple(rest)
