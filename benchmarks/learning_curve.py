"""What would more speech bring? Error rates on open-vocabulary English against hours of training speech.

avsr prepare ../shared/data/speech.tsv -o PACKS/speech --align
python benchmarks/learning_curve.py PACKS --work runs/curve

The audio branch of a model is trained further, with a new head of 256 pieces, on growing amounts of the read speech.
Each clip is used equally often, whatever the amount, so that more speech is also more training. Then it recognises
speech of speakers that it was not trained on (split `unseen`), and other speech of the training speakers, nearly all of
them (`dev`): greedily, and by beam search with a 3-gram of the texts and of all training transcripts, whatever the
amount. In --work: curve.json, curve.md, curve.png, and checkpoints from which a stopped run resumes. An hour of
training speech takes a core one to four minutes; all amounts together are 1.9 times the speech, times --times-heard.

A model that was trained on the speech before, as `default` is from version 0.3 on, makes the small amounts look better
than they are. Give an older one with --from.
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
from avsr.decode import BeamSearch, Tokenizer, WordLm, train_tokenizer
from avsr.decode.tokenizer import normalise_text
from avsr.errors import AvsrError, InputError
from avsr.evaluate import markdown
from avsr.evaluate.plots import as_png, require_matplotlib
from avsr.evaluate.wer import NO_ERRORS, character_errors, word_errors
from avsr.model import AvsrModel
from avsr.train.augment.examples import AugmentConfig
from avsr.train.augment.noise import NoiseSource
from avsr.train.batch import Collator
from avsr.train.gather import SPEECH_PACK, TRAIN_SPLIT
from avsr.train.loop import Trainer
from avsr.train.ngram import NgramConfig, train_ngrams
from avsr.train.packs.reader import Clip, PreparedCorpus
from avsr.train.plan import Source
from avsr.train.recipe import StageConfig
from avsr.types import TICK_S

NUM_PIECES = 256
UNSEEN_SPLIT, KNOWN_SPLIT = "unseen", "dev"
SEED = 1
CHUNK_TICKS = 8
SHARES = (0.125, 0.25, 0.5, 1.0)
AUGMENT = AugmentConfig(speed=0.1, pitch_semitones=3.0, formant_semitones=2.0, microphone_db=3.0)
DECODE = DecodeConfig(lm_weight=0.5, word_bonus=1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all points have in common: the initial model, and how often each of ``num_clips`` clips is used.

    ``num_timed`` of the clips have word times.
    """

    start: str
    times_heard: int
    num_clips: int
    num_timed: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Error rates of characters and words, greedy and with search and 3-gram."""

    cer: float
    wer: float
    searched_cer: float
    searched_wer: float


@dataclass(frozen=True, slots=True)
class Point:
    """Results of training on ``hours`` of ``num_speakers``: for unseen speakers, and for other speech of known ones."""

    hours: float
    num_speakers: int
    unseen: Rates
    known: Rates


def main() -> None:
    """Train, recognise, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packs", type=Path, nargs="?", help="directory with the pack speech, all splits in it")
    parser.add_argument("--from", dest="start", default="default", help="model whose audio branch is trained further")
    parser.add_argument("--times-heard", type=int, default=12, help="how often each clip is heard, whatever the amount")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="corpora: text/")
    parser.add_argument("--work", type=Path, default=Path("runs/curve"))
    options = parser.parse_args()
    if options.packs is None or not options.data.is_dir():
        print("skipped: " + ("no packs are given" if options.packs is None else f"no corpora at {options.data}"))
        return
    if options.times_heard < 1:
        parser.error("--times-heard is at least 1")
    torch.set_num_threads(1)
    require_matplotlib()
    start, spoken = load_bundle(options.start), PreparedCorpus(options.packs / SPEECH_PACK)
    if missing := [split for split in (TRAIN_SPLIT, UNSEEN_SPLIT, KNOWN_SPLIT) if not spoken.select(split)]:
        raise InputError(f"{options.packs / SPEECH_PACK}: has no clip of the split(s) {', '.join(missing)}")
    told = spoken.select(TRAIN_SPLIT)
    texts, num_timed = [clip.text for clip in told], sum(bool(clip.words) for clip in told)
    setting = Setting(f"{start.config.name} {start.config.version}", options.times_heard, len(texts), num_timed)
    claim(options.work, setting)
    tokenizer = Tokenizer(train_tokenizer(texts, NUM_PIECES))
    lines = [line for path in sorted((options.data / "text").glob("*.txt")) for line in path.read_text().splitlines()]
    lm = WordLm(train_ngrams(texts + lines, NgramConfig(min_counts=(1, 2))), DECODE.lm_weight, DECODE.word_bonus)
    beam = BeamSearch(DECODE, tokenizer, lm)
    strangers, known = (Source(spoken, spoken.select(split)) for split in (UNSEEN_SPLIT, KNOWN_SPLIT))
    points: list[Point] = []
    for share in SHARES:
        clips = choose(spoken, share)
        hours = sum(clip.num_ticks for clip in clips) * TICK_S / 3600
        stage = StageConfig(
            epochs=options.times_heard,
            warmup_epochs=0.02 * options.times_heard,
            validate_every=10_000,  # nothing is chosen
            augment=AUGMENT,
        )
        model = train_audio_branch(start, tokenizer, stage, Source(spoken, clips), known, options.work / f"{share:g}")
        collator = Collator(start.config.features, tokenizer)
        rates = (read(model, collator, beam, tokenizer, each) for each in (strangers, known))
        points.append(Point(hours, len({clip.speaker for clip in clips}), *rates))
        print(points[-1], flush=True)
        write(points, setting, options.work)


def claim(work: Path, setting: Setting) -> None:
    """Record the settings in ``work``, so that a run with others does not resume from its results.

    Raises:
        InputError: it holds the curve of another model, of other speech, or of more or less training.
    """
    noted, text = work / "setting.json", json.dumps(asdict(setting), indent=2) + "\n"
    work.mkdir(parents=True, exist_ok=True)
    if not noted.exists():
        noted.write_text(text, encoding="utf-8")
    if noted.read_text(encoding="utf-8") != text:
        raise InputError(f"{work}: holds another curve ({noted}); choose another --work")


def choose(spoken: PreparedCorpus, share: float) -> list[Clip]:
    """Choose a share of the clips; larger shares contain the smaller ones."""
    clips = spoken.select(TRAIN_SPLIT)
    order = np.random.default_rng(SEED).permutation(len(clips))
    return [clips[index] for index in sorted(order[: round(share * len(clips))])]


def train_audio_branch(
    start: Bundle, tokenizer: Tokenizer, stage: StageConfig, source: Source, dev: Source, directory: Path
) -> AvsrModel:
    """Train the audio branch of ``start`` further, with a new head."""
    sizes = start.config.model.model_copy(update={"vocab_size": tokenizer.vocab_size})
    silence = NoiseSource([], [])
    trainer = Trainer("audio", sizes, start.config.features, stage, tokenizer, [source], dev, silence, directory)
    known = {name: x for name, x in start.state_dict().items() if "_head." not in name}
    trainer.model.load_state_dict(known, strict=False)
    trainer.run()
    return trainer.model.eval()


@torch.inference_mode()
def read(model: AvsrModel, collator: Collator, beam: BeamSearch, tokenizer: Tokenizer, said: Source) -> Rates:
    """Recognise the clips of ``said`` with the audio branch, greedily and by beam search."""
    totals = [NO_ERRORS] * 4
    for clip in said.clips:
        batch = collator([collator.whole(clip, said.corpus.load(clip))])
        features, _, _ = model.encode_audio(batch.chunk, batch.valid, model.init_state(1, 0), model.window(CHUNK_TICKS))
        log_probs = model.audio_head(features)[0].log_softmax(-1).numpy()
        greedy = tokenizer.decode(token for token, _ in groupby(log_probs.argmax(-1).tolist()))
        _, state = beam.step(log_probs, beam.init_state())
        reference = normalise_text(clip.text)
        for column, hypothesis in enumerate((greedy, tokenizer.decode(beam.flush(state)[0].tokens))):
            totals[2 * column] += character_errors(reference, hypothesis)
            totals[2 * column + 1] += word_errors(reference, hypothesis)
    return Rates(*(errors.rate for errors in totals))


def write(points: list[Point], setting: Setting, work: Path) -> None:
    """Write figures, table and plot."""
    from matplotlib.figure import Figure

    saved = {**asdict(setting), "points": [asdict(point) for point in points]}
    (work / "curve.json").write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    rows = []
    for p in points:
        rates = [rate for some in (p.unseen, p.known) for rate in (some.cer, some.wer, some.searched_wer)]
        rows.append([f"{p.hours:.2f}", f"{p.num_speakers}", *(f"{rate:.1%}" for rate in rates)])
    columns = [f"{whose}, {rate}" for whose in ("never heard", "known") for rate in ("CER", "WER", "WER with a 3-gram")]
    (work / "curve.md").write_text(markdown.table(["hours", "speakers", *columns], rows, num_left=0))
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    hours = [p.hours for p in points]
    for whose, line in (("unseen", "-"), ("known", "--")):
        for rate, colour, title in (
            ("cer", "C0", "characters"),
            ("wer", "C1", "words"),
            ("searched_wer", "C2", "3-gram"),
        ):
            values = [100 * getattr(getattr(p, whose), rate) for p in points]
            axes.plot(hours, values, line, color=colour, marker="o", label=f"{title}, {whose}")
    axes.set_xscale("log", base=2)
    title = f"People never heard, and known ones; each clip heard {setting.times_heard} times"
    axes.set(xlabel="hours of speech", ylabel="errors, %", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    (work / "curve.png").write_bytes(as_png(figure))


if __name__ == "__main__":
    try:
        main()
    except AvsrError as error:
        raise SystemExit(f"learning curve: {error}") from error
