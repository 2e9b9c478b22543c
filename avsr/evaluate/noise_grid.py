"""Word error rates of every sense under every noise: clips, as live streams, against their transcripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from avsr.corpora import Utterance, read_clip
from avsr.errors import InputError
from avsr.evaluate.wer import word_error_rate
from avsr.lips import Face, FaceMesh
from avsr.media import AudioPacket, babble, mix_at_snr
from avsr.recognizer import MAX_FACES, Recognizer
from avsr.types import SAMPLE_RATE, ByteArray, Caption, FloatArray, Modality, VideoFrame

PACKET_S = 0.1


@dataclass(frozen=True, slots=True)
class Score:
    """One cell of the grid; ``snr_db`` None is clean; ``audio_weight`` is the mean over the clips with captions."""

    modality: Modality
    snr_db: float | None
    wer: float
    num_words: int
    audio_weight: float


def measure_grid(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    voices: Sequence[FloatArray],
    snrs_db: Sequence[float | None],
    modalities: Sequence[Modality],
    *,
    chunk_ms: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Score]:
    """Caption every utterance with every modality in babble made of ``voices`` at every SNR.

    Each utterance has one babble, the same at every SNR and for every modality. Lips do not hear noise: the lips-only
    row is measured once.

    Raises:
        InputError: a clip cannot be used, no utterance has a transcript, or noise is asked for without voices.
    """
    if not any(utterance.text for utterance in utterances):
        raise InputError("no utterance has a transcript; choose another split")
    if not voices and any(snr_db is not None for snr_db in snrs_db):
        raise InputError("babble was asked for, but there are no voices to make it of")
    cells = [(m, snr) for m in modalities for snr in snrs_db if m != "video" or snr == snrs_db[0]]
    found: dict[tuple[Modality, float | None], list[list[Caption]]] = {cell: [] for cell in cells}
    for index, utterance in enumerate(utterances):
        samples, frames = read_clip(utterance.path)
        noise = babble(voices, len(samples), np.random.default_rng((seed, index))) if voices else samples
        with FaceMesh(MAX_FACES) as mesh:
            faces = RememberedFaces(mesh)
            for modality, snr_db in cells:
                sound = samples if snr_db is None else mix_at_snr(samples, noise, snr_db)
                captions = _finals(recognizer, sound, frames, modality, chunk_ms, faces.rewound())
                found[modality, snr_db].append(captions)
        on_progress(index + 1)
    references = [utterance.text for utterance in utterances]
    return [_score(modality, snr_db, references, captions) for (modality, snr_db), captions in found.items()]


@dataclass(slots=True)
class RememberedFaces:
    """A landmarker that looks at each picture of a clip once, and answers from memory when the clip comes again."""

    mesh: FaceMesh
    _known: list[list[Face]] = field(default_factory=list)
    _next: int = 0

    def __call__(self, rgb: ByteArray) -> list[Face]:
        """Faces in the next picture of the clip."""
        if self._next == len(self._known):
            self._known.append(self.mesh(rgb))
        self._next += 1
        return self._known[self._next - 1]

    def close(self) -> None:
        """Nothing: the mesh belongs to the caller."""

    def rewound(self) -> RememberedFaces:
        """Begin the clip again."""
        self._next = 0
        return self


def _finals(
    recognizer: Recognizer,
    sound: FloatArray,
    frames: list[VideoFrame],
    modality: Modality,
    chunk_ms: int | None,
    faces: RememberedFaces,
) -> list[Caption]:
    with recognizer.stream(modality=modality, chunk_ms=chunk_ms, landmarker=faces) as stream:
        for packet in _interleaved(sound, frames):
            stream.accept(packet)
        stream.finish()
        return [caption for caption in stream.captions() if caption.is_final]


def _interleaved(sound: FloatArray, frames: list[VideoFrame]) -> list[AudioPacket | VideoFrame]:
    size = round(PACKET_S * SAMPLE_RATE)
    timed: list[tuple[float, AudioPacket | VideoFrame]] = [(frame.pts_us / 1e6, frame) for frame in frames]
    for start in range(0, len(sound), size):
        t = start / SAMPLE_RATE
        timed.append((t, AudioPacket(sound[start : start + size], SAMPLE_RATE, t)))
    return [packet for _, packet in sorted(timed, key=lambda item: item[0])]


def _score(modality: Modality, snr_db: float | None, references: list[str], captions: list[list[Caption]]) -> Score:
    texts = [" ".join(caption.text for caption in finals if caption.words) for finals in captions]
    weights = [caption.audio_weight for finals in captions for caption in finals if caption.words]
    return Score(
        modality,
        snr_db,
        word_error_rate(references, texts),
        sum(len(reference.split()) for reference in references),
        float(np.mean(weights)) if weights else 0.0,
    )
