"""Whose lips to read when several faces are seen: the one whose lips move with the sound.

Each face is kept apart by where it is, and scored by the running covariance of its lip motion with the loudness of
the sound. The choice changes only after another face has been clearly better for a second. With one face there is
nothing to choose, and the sound is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from avsr.lips.landmarks import Face

QUIET_DB = -60.0
"""Sound below this level counts as silence, dB of full scale."""
PATIENCE_TICKS = 25
"""Another face is chosen once its score was above `MIN_SCORE` and `SCORE_RATIO` times the chosen's for this long."""
MIN_SCORE = 0.002
SCORE_RATIO = 2.0
WINDOW_TICKS = 75
"""How far back the scores look."""
FORGET_TICKS = 25
"""A face unseen for so long is forgotten."""


@dataclass(frozen=True, slots=True)
class Person:
    """A face followed over time.

    ``centre`` and ``size`` in pixels; ``motion`` the smoothed change of the mouth's opening in a tick; the rest are
    running moments of motion and loudness (dB).
    """

    key: int
    centre: tuple[float, float]
    size: float
    opening: float
    unseen_ticks: int = 0
    num_heard: int = 0
    motion: float = 0.0
    mean_motion: float = 0.0
    mean_db: float = 0.0
    var_db: float = 0.0
    covariance: float = 0.0

    @property
    def score(self) -> float:
        """Lip motion that goes with the sound: change of opening in a tick for one deviation of loudness."""
        return self.covariance / math.sqrt(self.var_db + 1.0)


@dataclass(frozen=True, slots=True)
class SpeakerState:
    """Who was seen recently, the ``key`` of the one whose lips are read, and for how long a rival was better."""

    people: tuple[Person, ...] = ()
    chosen: int | None = None
    rival: int | None = None
    rival_ticks: int = 0
    next_key: int = 0


def pick_speaker(
    faces: Sequence[Face], audio_db: float | None, state: SpeakerState, num_ticks: int = 1
) -> tuple[Face | None, SpeakerState]:
    """Return the chosen one of this tick's ``faces``, or None while it is out of sight.

    ``audio_db`` is the tick's loudness (see ``level_db``), None when nothing was heard. ``num_ticks`` have passed since
    faces were looked for last: more than one where there are fewer than 25 pictures a second.
    """
    people, seen = _recognise(faces, state, num_ticks)
    people = tuple(_listen(person, audio_db) if person.key in seen else person for person in people)
    chosen, rival, rival_ticks = _choose(people, seen, state, num_ticks)
    state = SpeakerState(people, chosen, rival, rival_ticks, max([state.next_key, *(key + 1 for key in seen)]))
    return (None if chosen is None else seen.get(chosen)), state


_SAME_FACE_DISTANCE = 0.6
"""A face is taken for one seen before when its centre moved by less than this share of its size."""
_SAME_FACE_RATIO = 1.6
"""... and it grew or shrank by less than this."""
_MOTION_WEIGHT = 0.3
"""Weight of the newest change in the smoothed lip motion: about a syllable."""


def _choose(
    people: tuple[Person, ...], seen: dict[int, Face], state: SpeakerState, num_ticks: int
) -> tuple[int | None, int | None, int]:
    """Return the keys of the chosen one and of its rival, and for how many ticks the rival was better."""
    present = [person for person in people if person.key in seen]
    chosen = next((person for person in people if person.key == state.chosen), None)
    if chosen is None or chosen.key not in seen:
        # A face that comes just when the chosen one is gone is taken for the same one after a jump or a cut;
        # one that was there all along has to wait until the chosen one is forgotten.
        heirs = [p for p in present if chosen is None or p.key >= state.next_key]
        if heirs:
            return max(heirs, key=lambda person: (person.score, person.size)).key, None, 0
        return state.chosen, None, 0

    rival = max((p for p in present if p is not chosen), key=lambda person: person.score, default=None)
    if rival is None or rival.score <= max(MIN_SCORE, SCORE_RATIO * chosen.score):
        return chosen.key, None, 0
    ticks = state.rival_ticks + num_ticks if rival.key == state.rival else 1
    if ticks < PATIENCE_TICKS:
        return chosen.key, rival.key, ticks
    return rival.key, None, 0


def _recognise(
    faces: Sequence[Face], state: SpeakerState, num_ticks: int
) -> tuple[tuple[Person, ...], dict[int, Face]]:
    """Give each face to the nearest person, or make it a new one; return everybody and who is seen now."""
    boxes = [_centre_and_size(face) for face in faces]
    pairs = sorted(
        (math.dist(person.centre, centre) / size, person_index, face_index)
        for person_index, person in enumerate(state.people)
        for face_index, (centre, size) in enumerate(boxes)
        if max(size / person.size, person.size / size) < _SAME_FACE_RATIO
    )
    owner: dict[int, int] = {}
    for distance, person_index, face_index in pairs:
        if distance < _SAME_FACE_DISTANCE and face_index not in owner and person_index not in owner.values():
            owner[face_index] = person_index

    people = [
        replace(person, unseen_ticks=person.unseen_ticks + num_ticks)
        for index, person in enumerate(state.people)
        if index not in owner.values() and person.unseen_ticks + num_ticks <= FORGET_TICKS
    ]
    seen: dict[int, Face] = {}
    next_key = state.next_key
    for face_index, (face, (centre, size)) in enumerate(zip(faces, boxes, strict=True)):
        if face_index in owner:
            before = state.people[owner[face_index]]
            motion = before.motion + _MOTION_WEIGHT * (abs(face.mouth_opening - before.opening) - before.motion)
            person = replace(
                before, centre=centre, size=size, opening=face.mouth_opening, unseen_ticks=0, motion=motion
            )
        else:
            person = Person(next_key, centre, size, face.mouth_opening)
            next_key += 1
        people.append(person)
        seen[person.key] = face
    return tuple(people), seen


def _listen(person: Person, audio_db: float | None) -> Person:
    """Take the tick's motion and loudness into the running moments; unheard ticks teach nothing."""
    if audio_db is None:
        return person
    loudness = max(audio_db, QUIET_DB)
    if person.num_heard == 0:
        return replace(person, num_heard=1, mean_motion=person.motion, mean_db=loudness)
    num_heard = min(person.num_heard + 1, WINDOW_TICKS)
    weight = 1 / num_heard
    off_motion, off_db = person.motion - person.mean_motion, loudness - person.mean_db
    return replace(
        person,
        num_heard=num_heard,
        mean_motion=person.mean_motion + weight * off_motion,
        mean_db=person.mean_db + weight * off_db,
        var_db=(1 - weight) * (person.var_db + weight * off_db * off_db),
        covariance=(1 - weight) * (person.covariance + weight * off_motion * off_db),
    )


def _centre_and_size(face: Face) -> tuple[tuple[float, float], float]:
    left, top, right, bottom = face.box
    return ((left + right) / 2, (top + bottom) / 2), max(right - left, bottom - top, 1.0)
