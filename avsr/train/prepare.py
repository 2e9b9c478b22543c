"""Clips of a table to a prepared corpus, through the engine's own front end, on every processor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from avsr.corpora import Utterance, noise_files, read_senses, read_table
from avsr.train.augment import NoiseSource
from avsr.train.prepared import INDEX_FILE, Clip, ClipData, write_prepared
from avsr.types import FloatArray

Item = TypeVar("Item")


def prepare(table: Path, directory: Path) -> None:
    """Prepare every utterance of ``table``; does nothing where that is done.

    Raises:
        InputError: the table or one of its clips cannot be used.
    """
    if (directory / INDEX_FILE).exists():
        return
    utterances = read_table(table)
    with _pool() as pool:
        results = pool.imap(_prepare_one, utterances, chunksize=4)
        data = list(_with_progress(results, len(utterances), f"preparing {table.name}"))
    clips = [Clip(str(u.path), u.speaker, u.split, u.text, u.words, start_tick=0, num_ticks=0) for u in utterances]
    write_prepared(directory, clips, data)


def read_noise(data: Path) -> NoiseSource:
    """Load the training half of the babble voices and noises under ``data``."""
    voices, noises = noise_files(data, "train")
    with _pool() as pool:
        results = pool.imap(_read_audio, [*voices, *noises], chunksize=8)
        samples = list(_with_progress(results, len(voices) + len(noises), "reading noise"))
    audible = [noise for noise in samples[len(voices) :] if np.any(noise)]
    return NoiseSource(samples[: len(voices)], audible)


def _prepare_one(utterance: Utterance) -> ClipData:
    senses = read_senses(utterance.path, "av")
    lips = np.stack([lip.gray for lip in senses.lips])
    return ClipData(senses.samples, lips, senses.visible)


def _read_audio(path: Path) -> FloatArray:
    return read_senses(path, "audio").samples


def _pool() -> multiprocessing.pool.Pool:
    # Forking a process in which torch or MediaPipe has threads can hang it.
    return multiprocessing.get_context("spawn").Pool(initializer=torch.set_num_threads, initargs=(1,))


def _with_progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    for index, item in enumerate(items, start=1):
        if index % max(1, total // 10) == 0 or index == total:
            print(f"{name}: {index} of {total}", flush=True)
        yield item
