"""Does fusion need gates? Word error rates against noise: four kinds of fusion under one budget, and each sense alone.

python benchmarks/ablation.py PACKS --work runs/ablation      PACKS: corpus, noise, talkers, as `avsr train` leaves them

The branches are taken from a model and frozen. The fusion, the fused encoder and its head are learnt anew: every kind
takes the same steps on the same batches. Then all are measured by live streams, on the same clips with the same babble
of voices that nothing was trained with. Sound alone and lips alone are the gated model's. In --work: ablation.json,
ablation.md, ablation.png, a bundle of each kind, and checkpoints from which a stopped run resumes. One core takes 3 min
an epoch for all kinds together, and 22 s a clip for all systems and ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _fusion_training import KINDS, Trained, num_learnt, train_fusions

from avsr.bundle import Bundle, load_bundle, save_bundle
from avsr.config import FusionKind
from avsr.corpora import noise_seen_in_training
from avsr.errors import AvsrError
from avsr.evaluate import markdown
from avsr.evaluate.bench import Plan, Selection, clip_fingerprints, run, select_clips
from avsr.evaluate.clips import ClipUnderTest
from avsr.evaluate.conditions import grid, parse_snrs
from avsr.evaluate.journal import Journal
from avsr.evaluate.noises import BABBLE, NoiseLibrary, parse_noises
from avsr.evaluate.plots import as_png, plot_wer, require_matplotlib
from avsr.evaluate.report import MIXING_RULE
from avsr.evaluate.scores import INTERVAL_RULE, Score, compare_texts, score
from avsr.evaluate.systems import EngineSystem, Recognition
from avsr.evaluate.tables import wer_tables
from avsr.recognizer import load_model
from avsr.train.augment.examples import AugmentConfig
from avsr.train.augment.noise import NoiseWeights
from avsr.train.recipe import StageConfig
from avsr.types import FloatArray

STAGE = StageConfig(
    epochs=8,
    learning_rate=1e-3,
    warmup_epochs=0.5,
    talker_repeat=0.3,
    augment=AugmentConfig(
        join_share=0.3,
        speed=0.1,
        noise_share=0.65,
        noise=NoiseWeights(talker=0.4, coloured=0.3),
        snr_low_db=-10.0,
        drop_audio_share=0.12,
        drop_video_share=0.15,
        vanish_audio_share=0.08,
        vanish_video_share=0.08,
    ),
)
SNRS = "clean,20,10,5,0,-5,-10"
TITLES: dict[FusionKind, str] = {
    "gated": "gated cross-attention",
    "ungated": "cross-attention without gates",
    "fixed": "sum with fixed weights",
    "concat": "concatenation",
}
NOISE_SEED = 0


@dataclass(frozen=True, slots=True)
class NamedSystem:
    """The engine under a name of its own; the weight of the sound is reported only for gated fusion."""

    name: str
    title: str
    engine: EngineSystem

    @property
    def uses_sound(self) -> bool:
        """As the engine."""
        return self.engine.uses_sound

    @property
    def settings(self) -> dict[str, Any]:
        """As the engine."""
        return self.engine.settings

    def recognise(self, clip: ClipUnderTest, sound: FloatArray) -> Recognition:
        """As the engine."""
        recognition = self.engine.recognise(clip, sound)
        return recognition if self.name == "gated" else replace(recognition, audio_weight=None)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packs", type=Path, nargs="?", help="directory with the packs corpus, noise and talkers")
    parser.add_argument("--from", dest="start", default="default", help="model whose branches are taken")
    parser.add_argument("--epochs", type=int, default=STAGE.epochs)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="corpora: grid.tsv and speech.tsv")
    parser.add_argument("--split", default="dev", help="of grid.tsv, to be measured")
    parser.add_argument("--limit", type=int, help="measure only so many clips")
    parser.add_argument("--snr", default=SNRS, help="dB, and clean")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"))
    options = parser.parse_args()
    if options.packs is None or not options.data.is_dir():
        print("skipped: " + ("no packs are given" if options.packs is None else f"no corpora at {options.data}"))
        return
    torch.set_num_threads(1)
    require_matplotlib()
    options.work.mkdir(parents=True, exist_ok=True)
    stage, start = STAGE.model_copy(update={"epochs": options.epochs}), load_bundle(options.start)
    trained = train_fusions(start, options.packs, stage, options.work)
    save_models(trained, start, options.work)
    selection = select_clips(options.data / "grid.tsv", options.split, options.limit)
    plan = make_plan(options.work, options.data, selection, options.snr)
    scores = measure(plan, options.work)
    budget = {
        "from": f"{start.config.name} {start.config.version}",
        "stage": stage.model_dump(mode="json"),
        "learnt_weights": {kind: num_learnt(model) for kind, model in trained.models.items()},
        "epochs": trained.log,
        "split": options.split,
    }
    write(scores, {system.name: system.title for system in plan.systems}, budget, options.work)


def save_models(trained: Trained, start: Bundle, work: Path) -> None:
    """Write a bundle of each kind."""
    branches = f"{start.config.name} {start.config.version}"
    for kind, model in trained.models.items():
        config = start.config.model_copy(update={"name": f"ablation-{kind}", "model": model.config})
        card = f"# ablation-{kind}\n\nFor comparison only: {TITLES[kind]} over the frozen branches of {branches}.\n"
        save_bundle(work / kind, config, model.state_dict(), start.tokenizer_bytes, card)


def make_plan(work: Path, data: Path, selection: Selection, snrs: str) -> Plan:
    """Say what is measured: every kind, and each sense alone, in babble that nothing was trained with."""
    models = {kind: load_model(work / kind, threads=1) for kind in KINDS}
    chunk_ms = models["gated"].bundle.config.default_chunk_ms
    systems = [NamedSystem(kind, TITLES[kind], EngineSystem(models[kind], "av", chunk_ms)) for kind in KINDS]
    systems.append(NamedSystem("audio", "audio only", EngineSystem(models["gated"], "audio", chunk_ms)))
    systems.append(NamedSystem("video", "lips only", EngineSystem(models["gated"], "video", chunk_ms)))
    kinds = parse_noises([f"{BABBLE}={data / 'speech.tsv'}"], noise_seen_in_training(data))
    return Plan(selection.clips, systems, grid([BABBLE], parse_snrs(snrs)), NoiseLibrary(kinds, NOISE_SEED))


def measure(plan: Plan, work: Path) -> list[Score]:
    """Measure what is not measured yet, and score all of it."""
    settings = {
        "clips": clip_fingerprints(plan.clips),
        "seed": NOISE_SEED,
        "noise": {name: kind.fingerprint() for name, kind in plan.noises.kinds.items()},
        "systems": {system.name: dict(system.settings) for system in plan.systems},
    }
    names: set[str] = set()

    def show(clip: str) -> None:
        if clip not in names:
            names.add(clip)
            print(f"measuring clip {len(names)} of {len(plan.clips)}", flush=True)

    with Journal(work, settings) as journal:
        left_out = run(plan, journal, show)
        for clip, reason in left_out.items():
            print(f"left out: {clip}: {reason}")
        return score(compare_texts(plan, journal, left_out, "basic"))


def write(scores: Sequence[Score], titles: Mapping[str, str], budget: Mapping[str, Any], work: Path) -> None:
    """Write figures, table and plot, and print the table."""
    num_clips = max(each.num_clips for each in scores)
    rows = [
        {"system": each.system, "title": titles[each.system], **asdict(each.condition), "num_clips": each.num_clips}
        | {"wer": each.wer.value, "wer_low": each.wer.low, "wer_high": each.wer.high, "audio_weight": each.audio_weight}
        for each in scores
    ]
    rules = {"intervals": INTERVAL_RULE, "mixing": MIXING_RULE}
    (work / "ablation.json").write_text(json.dumps({**budget, **rules, "scores": rows}, indent=2) + "\n")
    tables = wer_tables(scores, titles)
    text = "\n".join(f"{table.title}\n\n{markdown.table(table.heads, table.rows)}" for table in tables)
    (work / "ablation.md").write_text(text, encoding="utf-8")
    caption = f"{num_clips} clips; one budget; bands: 95 % bootstrap intervals over clips"
    (work / "ablation.png").write_bytes(as_png(plot_wer(scores, titles, caption)))
    print(text)


if __name__ == "__main__":
    try:
        main()
    except AvsrError as error:
        raise SystemExit(f"ablation: {error}") from error
