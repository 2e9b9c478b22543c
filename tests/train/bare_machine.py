"""Training where there is neither PyAV nor MediaPipe, in a process that has imported nothing of ours before."""

from __future__ import annotations

import sys
from pathlib import Path

MISSING = ("av", "mediapipe", "sounddevice")
SIZES = {"dim": 16, "num_heads": 2, "num_audio_layers": 1, "num_video_layers": 1, "num_fusion_layers": 1}
STAGE = {"epochs": 1, "batch_size": 2}


def train(work: Path) -> None:
    """Train an audio branch in ``work``, from the pack there."""
    assert not sys.modules.keys() & {"avsr", *MISSING}
    sys.modules.update(dict.fromkeys(MISSING))  # type: ignore[arg-type]  # None: it cannot be imported
    from avsr.train.job import Job
    from avsr.train.machine import Machine
    from avsr.train.recipe import RecipeConfig
    from avsr.train.run import make_preprocessing
    from avsr.train.tracking import print_notes

    recipe = RecipeConfig.model_validate(
        {"name": "bare", "version": "1", "table": "-", "vocab_size": 40, "model": SIZES, "card": "-"}
        | {"audio": STAGE, "video": STAGE, "fusion": STAGE}
    )
    packs = {"corpus": work / "packs" / "corpus"}
    Job(recipe, packs, work, make_preprocessing(recipe, packs, work, None)).trainer(
        "audio", Machine(), print_notes
    ).run()
