"""What would more speech bring? Errors on open-vocabulary English against the hours of speech that were learnt from.

python benchmarks/learning_curve.py PACKS --work runs/curve      PACKS: speech, as `avsr train` leaves it

The ear of a model goes on from its encoder with a new head of 256 pieces, from more and more of the read speech; every
amount is heard for the same time, to the nearest epoch. Then it reads speech of people whom nothing has heard (split
`unseen` of the table): the likeliest piece at each tick, and a beam search with a 3-gram of the texts and of all that
is said in the speech, whatever the amount. In --work: curve.json, curve.md, curve.png, and what lets a run that was
stopped go on. An hour heard takes a core one to four minutes.

What the model has heard before counts for every amount: one that knows the speech already, as `default` does from
version 0.3 on, makes the small ones look better than they are. For more speech alone, give an older one (--from).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from avsr.bundle import Bundle, load_bundle
from avsr.config import DecodeConfig
from avsr.corpora import read_table
from avsr.decode import BeamSearch, Tokenizer, WordLm, train_tokenizer
from avsr.decode.tokenizer import normalise_text
from avsr.errors import AvsrError, InputError
from avsr.evaluate.plots import as_png, require_matplotlib
from avsr.evaluate.wer import NO_ERRORS, character_errors, word_errors
from avsr.model import AvsrModel
from avsr.train.augment.examples import AugmentConfig
from avsr.train.augment.noise import NoiseSource
from avsr.train.batch import Collator
from avsr.train.gather import SPEECH_PACK, TRAIN_SPLIT
from avsr.train.loop import Trainer
from avsr.train.ngram import NgramConfig, train_ngrams
from avsr.train.packs.prepare import prepare
from avsr.train.packs.prepared import Clip, PreparedCorpus
from avsr.train.plan import Source
from avsr.train.recipe import StageConfig
from avsr.types import TICK_S

NUM_PIECES = 256
UNSEEN_SPLIT = "unseen"
SEED = 1
CHUNK_TICKS = 8
SHARES = (0.125, 0.25, 0.5, 1.0)
AUGMENT = AugmentConfig(speed=0.1, pitch_semitones=3.0, formant_semitones=2.0, microphone_db=3.0)
DECODE = DecodeConfig(lm_weight=0.5, word_bonus=1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all points have in common: the model that goes on, and how many hours of ``num_clips`` clips it hears."""

    start: str
    hours_heard: float
    num_clips: int


@dataclass(frozen=True, slots=True)
class Point:
    """What came of ``hours`` of speech: error rates of characters and words, greedy and with search and 3-gram."""

    hours: float
    num_speakers: int
    cer: float
    wer: float
    searched_cer: float
    searched_wer: float


def main() -> None:
    """Train, read, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packs", type=Path, nargs="?", help="directory with the pack speech")
    parser.add_argument("--from", dest="start", default="default", help="model whose ear goes on")
    parser.add_argument("--hours-heard", type=float, default=15.0, help="training, the same for every amount")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="corpora: speech.tsv and text/")
    parser.add_argument("--work", type=Path, default=Path("runs/curve"))
    options = parser.parse_args()
    if options.packs is None or not options.data.is_dir():
        print("skipped: " + ("no packs are given" if options.packs is None else f"no corpora at {options.data}"))
        return
    torch.set_num_threads(1)
    require_matplotlib()
    start, spoken = load_bundle(options.start), PreparedCorpus(options.packs / SPEECH_PACK)
    texts = [clip.text for clip in spoken.select(TRAIN_SPLIT)]
    setting = Setting(f"{start.config.name} {start.config.version}", options.hours_heard, len(texts))
    claim(options.work, setting)
    unseen = prepare_unseen(options.data, options.work / "unseen")
    tokenizer = Tokenizer(train_tokenizer(texts, NUM_PIECES))
    lines = [line for path in sorted((options.data / "text").glob("*.txt")) for line in path.read_text().splitlines()]
    lm = WordLm(train_ngrams(texts + lines, NgramConfig(min_counts=(1, 2))), DECODE.lm_weight, DECODE.word_bonus)
    beam = BeamSearch(DECODE, tokenizer, lm)
    points = []
    for share in SHARES:
        clips = choose(spoken, share)
        hours = sum(clip.num_ticks for clip in clips) * TICK_S / 3600
        stage = StageConfig(
            epochs=max(1, round(options.hours_heard / hours)),
            warmup_epochs=0.02 * options.hours_heard / hours,
            validate_every=10_000,  # nothing is chosen by what the unseen say
            augment=AUGMENT,
        )
        source, dev = Source(spoken, clips), Source(unseen, unseen.select(UNSEEN_SPLIT))
        model = train_ear(start, tokenizer, stage, source, dev, options.work / f"{share:g}")
        collator = Collator(start.config.features, tokenizer)
        points.append(Point(hours, len({clip.speaker for clip in clips}), *read(model, collator, beam, tokenizer, dev)))
        print("  ".join(f"{name} {value:.4g}" for name, value in asdict(points[-1]).items()), flush=True)
        write(points, setting, options.work)


def claim(work: Path, setting: Setting) -> None:
    """Note in ``work`` what is measured, so that nothing else takes over its half-done results.

    Raises:
        InputError: it holds the curve of another model, of other speech, or of more or less training.
    """
    noted, text = work / "setting.json", json.dumps(asdict(setting), indent=2) + "\n"
    work.mkdir(parents=True, exist_ok=True)
    if not noted.exists():
        noted.write_text(text, encoding="utf-8")
    if noted.read_text(encoding="utf-8") != text:
        raise InputError(f"{work}: holds another curve ({noted}); choose another --work")


def prepare_unseen(data: Path, directory: Path) -> PreparedCorpus:
    """Return the speech of people whom nothing has heard."""
    prepare([each for each in read_table(data / "speech.tsv") if each.split == UNSEEN_SPLIT], data, directory)
    return PreparedCorpus(directory)


def choose(spoken: PreparedCorpus, share: float) -> list[Clip]:
    """Choose a share of the clips; what a smaller share has, a larger one has too."""
    clips = spoken.select(TRAIN_SPLIT)
    order = np.random.default_rng(SEED).permutation(len(clips))
    return [clips[index] for index in sorted(order[: round(share * len(clips))])]


def train_ear(
    start: Bundle, tokenizer: Tokenizer, stage: StageConfig, source: Source, dev: Source, directory: Path
) -> AvsrModel:
    """Let the ear of ``start`` go on, with a head that is new."""
    sizes = start.config.model.model_copy(update={"vocab_size": tokenizer.vocab_size})
    silence = NoiseSource([], [])
    trainer = Trainer("audio", sizes, start.config.features, stage, tokenizer, [source], dev, silence, directory)
    known = {name: x for name, x in start.state_dict().items() if "_head." not in name}
    trainer.model.load_state_dict(known, strict=False)
    trainer.run()
    return trainer.model.eval()


@torch.inference_mode()
def read(
    model: AvsrModel, collator: Collator, beam: BeamSearch, tokenizer: Tokenizer, dev: Source
) -> tuple[float, float, float, float]:
    """Return the rates of character and word errors, greedy, then by search."""
    totals = [NO_ERRORS] * 4
    for clip in dev.clips:
        batch = collator([collator.whole(clip, dev.corpus.load(clip))])
        features, _, _ = model.encode_audio(batch.chunk, batch.valid, model.init_state(1, 0), CHUNK_TICKS)
        log_probs = model.audio_head(features)[0].log_softmax(-1).numpy()
        greedy = tokenizer.decode(token for token, _ in groupby(log_probs.argmax(-1).tolist()))
        _, state = beam.step(log_probs, beam.init_state())
        reference = normalise_text(clip.text)
        for column, hypothesis in enumerate((greedy, tokenizer.decode(beam.flush(state)[0].tokens))):
            totals[2 * column] += character_errors(reference, hypothesis)
            totals[2 * column + 1] += word_errors(reference, hypothesis)
    cer, wer, searched_cer, searched_wer = (errors.total / errors.num_reference for errors in totals)
    return cer, wer, searched_cer, searched_wer


def write(points: list[Point], setting: Setting, work: Path) -> None:
    """Write figures, table and plot."""
    from matplotlib.figure import Figure

    saved = {**asdict(setting), "points": [asdict(point) for point in points]}
    (work / "curve.json").write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    rows = [
        f"| {p.hours:.2f} | {p.num_speakers} | {p.cer:.1%} | {p.wer:.1%} | "
        f"{p.searched_cer:.1%} | {p.searched_wer:.1%} |\n"
        for p in points
    ]
    head = "| hours | speakers | CER | WER | CER, searched with a 3-gram | WER, likewise |\n"
    (work / "curve.md").write_text(head + "| ---: | ---: | ---: | ---: | ---: | ---: |\n" + "".join(rows))
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, title in (("cer", "characters"), ("wer", "words"), ("searched_wer", "words, searched with a 3-gram")):
        axes.plot([p.hours for p in points], [100 * getattr(p, name) for p in points], marker="o", label=title)
    axes.set_xscale("log", base=2)
    title = f"People never heard; {setting.hours_heard:g} h of training"
    axes.set(xlabel="hours of speech", ylabel="errors, %", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    (work / "curve.png").write_bytes(as_png(figure))


if __name__ == "__main__":
    try:
        main()
    except AvsrError as error:
        raise SystemExit(f"learning curve: {error}") from error
