"""From pictures to mouths, tick by tick: find the faces, choose one, cut out its mouth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from avsr.lips.crop import CropState, cut, follow
from avsr.lips.landmarks import Landmarker
from avsr.lips.light import brighten
from avsr.lips.speaker import SpeakerState, pick_speaker
from avsr.types import LIP_SIZE, LipFrame, VideoTick

HOLD_TICKS = 5
"""A lost face's last crop is repeated for this long, then the mouth counts as not visible."""


@dataclass(frozen=True, slots=True)
class LipInput:
    """One tick of video, and the loudness of the sound in it (see ``level_db``), None when nothing was heard."""

    video: VideoTick
    audio_db: float | None = None


@dataclass(frozen=True, slots=True)
class LipState:
    """The last frame with a face, its crop, for how many ticks the face has been lost, and the faces being followed.

    ``looked_tick`` is the tick of the last new picture.
    """

    last: LipFrame | None = None
    crop: CropState | None = None
    lost_ticks: int = 0
    speaker: SpeakerState = field(default_factory=SpeakerState)
    looked_tick: int | None = None


class LipTracker:
    """Stage from ``LipInput`` to ``LipFrame``, one for one and without delay.

    Its memory is in the state, except that ``landmarker`` may track faces by itself: so each stream needs its own, and
    whoever opened it closes it.
    """

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker

    def init_state(self) -> LipState:
        """Return the state before the first picture."""
        return LipState()

    def step(self, x: LipInput, state: LipState) -> tuple[LipFrame, LipState]:
        """Return the mouth at this tick.

        A repeated picture repeats the last answer and changes no state: the crop settles after a number of new
        pictures, whatever their rate. The choice of the speaker, in contrast, changes after a length of time.

        Without a face the last crop is repeated for ``HOLD_TICKS``; after that the frame is not ``visible``.
        """
        tick = x.video.tick
        if x.video.frame is None:
            return self._lost(tick, state)
        if x.video.repeated:
            if state.last is None or state.lost_ticks:
                return self._lost(tick, state)
            return replace(state.last, tick=tick), state

        rgb = x.video.frame.rgb
        num_ticks = 1 if state.looked_tick is None else tick - state.looked_tick
        face, speaker = pick_speaker(self._landmarker(rgb), x.audio_db, state.speaker, num_ticks)
        if face is None:
            return self._lost(tick, replace(state, speaker=speaker, looked_tick=tick))
        same_face = speaker.chosen == state.speaker.chosen and state.lost_ticks <= HOLD_TICKS
        crop = follow(face, state.crop if same_face else None)
        frame = LipFrame(brighten(cut(rgb, crop.pose)), tick, visible=True, mouth_opening=face.mouth_opening)
        return frame, LipState(frame, crop, lost_ticks=0, speaker=speaker, looked_tick=tick)

    def _lost(self, tick: int, state: LipState) -> tuple[LipFrame, LipState]:
        # Counting stops one past the hold, so that the state of an endless stream stays the same.
        lost_ticks = min(state.lost_ticks + 1, HOLD_TICKS + 1)
        state = replace(state, lost_ticks=lost_ticks)
        if state.last is not None and lost_ticks <= HOLD_TICKS:
            return replace(state.last, tick=tick), state
        return LipFrame(np.zeros((LIP_SIZE, LIP_SIZE), np.uint8), tick, visible=False), state
