"""Recipes: the shipped one is valid, and a tiny one goes all the way from clips to a bundle that captions."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from stand_ins import tiny_sizes

import avsr
from avsr.bundle import LM_FILE, MAX_BYTES, load_bundle
from avsr.config import ModelConfig, load_config
from avsr.corpora import read_table
from avsr.errors import AvsrError, ConfigError, InputError
from avsr.features import LogMel
from avsr.train import apart, run
from avsr.train.checkpoint import read_tensors
from avsr.train.loop import WEIGHTS, finished_summary
from avsr.train.machine import Machine
from avsr.train.packs import prepare
from avsr.train.packs.prepared import Clip, PreparedCorpus
from avsr.train.recipe import RECIPES, RecipeConfig
from avsr.train.statistics import LEAST_STD, measure_features
from avsr.train.tracking import Report, StageProgress, print_notes
from avsr.types import FloatArray

DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"
SIZES = tiny_sizes(1)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load_config(path, RecipeConfig)
    assert recipe.sizes(99).vocab_size == 99
    assert [recipe.stage(branch) for branch in ("audio", "video", "fusion")] == [
        recipe.audio,
        recipe.video,
        recipe.fusion,
    ]
    assert recipe.card.startswith("#")


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((RECIPES / "default.yaml").read_text() + "\nlerning_rate: 1.0\n")
    with pytest.raises(ConfigError, match="lerning_rate"):
        load_config(recipe, RecipeConfig)


def test_measured_statistics_normalise_what_they_were_measured_on() -> None:
    rng = np.random.default_rng(1)
    utterances: list[FloatArray] = [
        (rng.normal(size=640 * 40) * np.repeat(rng.uniform(0.01, 0.5, 40), 640)).astype(np.float32) for _ in range(3)
    ]
    log_mel = LogMel(measure_features(utterances))
    mel = torch.cat([log_mel.step(torch.from_numpy(samples), log_mel.init_state())[0] for samples in utterances])
    assert mel.mean(0).abs().max() < 0.01
    assert (mel.std(0) - 1).abs().max() < 0.01


def test_silence_has_statistics_too() -> None:
    assert measure_features([np.zeros(6400, np.float32)]).mel_std[0] == LEAST_STD
    assert len(measure_features([]).mel_mean) == 80


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The demo clip, twice, as a corpus; and a little noise."""
    directory = tmp_path / "data"
    directory.mkdir()
    shutil.copy(DEMO_CLIP, directory / "clip.mp4")
    shutil.copy(DEMO_CLIP.with_name("babble.ogg"), directory / "babble.ogg")
    header = "path\tspeaker\tsplit\tseconds\ttext\twords\n"
    said = "bin blue at f\tbin:0.4-0.6 blue:0.6-0.831 at:0.831-1.015 f:1.015-1.151"
    rows = "".join(f"clip.mp4\ts{i}\t{split}\t4\t{said}\n" for i, split in enumerate(("train", "dev")))
    (directory / "toy.tsv").write_text(header + rows)
    read = "babble.ogg\tc\ttrain\t8\tbin blue\t\nbabble.ogg\tc\tunseen\t8\tbin blue\t\n"
    (directory / "speech.tsv").write_text(header + "babble.ogg\tb\tbabble\t8\t\t\n" * 2 + read)
    (directory / "noise.tsv").write_text(header + "babble.ogg\tb\tnoise\t8\t\t\n" * 2)
    return directory


def recipe_of(**changes: object) -> RecipeConfig:
    sizes = {name: value for name, value in SIZES.model_dump().items() if name != "vocab_size"}
    stages = {branch: {"epochs": 1, "batch_size": 1} for branch in ("audio", "video", "fusion")}
    stages["fusion"]["augment"] = {"noise_share": 1.0}
    return RecipeConfig.model_validate(
        {"name": "toy", "version": "1", "table": "toy.tsv", "vocab_size": 44, "model": sizes, "card": "# toy\n"}
        | stages
        | changes
    )


def prepare_toy(data: Path, packs: Path) -> Path:
    """Prepare the clips alone."""
    prepare.prepare(read_table(data / "toy.tsv"), data, packs / "corpus")
    return packs


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried here is the way of the data, not the processes."""
    monkeypatch.setattr(prepare, "_executor", ThreadPoolExecutor)
    monkeypatch.setattr(apart.os, "cpu_count", lambda: 1)


@pytest.mark.usefixtures("_in_this_process")
def test_a_recipe_goes_from_clips_to_a_bundle_that_captions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, work, bundle = recipe_of(lm={"order": 2, "texts": ["a.txt"]}), tmp_path / "work", tmp_path / "bundle"
    with pytest.raises(InputError, match=r"toy\.tsv: cannot be written to .*another --work"):
        run.run_recipe(recipe, data, data / "toy.tsv", bundle)
    with pytest.raises(InputError, match=r"a\.txt"):  # before anything is trained
        run.run_recipe(recipe, data, work, bundle)
    (data / "a.txt").write_text("red now\n")
    with monkeypatch.context() as patch, pytest.raises(InputError, match="prune it under lm:"):
        patch.setitem(MAX_BYTES, LM_FILE, 9)
        run.run_recipe(recipe, data, work, bundle)
    assert not (work / "audio").exists()
    run.run_recipe(recipe, data, work, bundle)
    recognizer = avsr.load_model(bundle)
    assert recognizer.bundle.config.name == "toy"
    assert recognizer.bundle.config.model == ModelConfig.model_validate(
        SIZES.model_dump() | {"vocab_size": recognizer.tokenizer.vocab_size}
    )
    assert recognizer.transcribe(DEMO_CLIP, modality="audio").duration_s == pytest.approx(4.0, abs=0.1)

    trained = read_tensors(work / "fusion" / WEIGHTS)["model"]
    loaded = recognizer.network.state_dict()
    floats = {name: value for name, value in trained.items() if value.is_floating_point()}
    assert all(torch.equal(loaded[name], value.half().float()) for name, value in floats.items())

    assert recognizer.lm is not None
    for word, is_known in {"bin": True, "now": True, "soon": False}.items():
        assert (recognizer.lm.score(word, ())[0] > recognizer.lm.score("never", ())[0]) == is_known

    card = recognizer.bundle.card
    assert card.startswith("# toy\n\n## Training\n")
    assert [line.split(" | ")[0] for line in card.splitlines()[-3:]] == ["| audio", "| video", "| fusion"]
    assert "| 1 | 1 | 0.00 | those after epoch 1 | audio " in card

    # Another model can go on from it, in a folder of its own.
    start = load_bundle(bundle)
    with pytest.raises(InputError, match="another recipe or model"):
        run.run_recipe(recipe, data, work, bundle, start=start)
    (tmp_path / "further").mkdir()
    foundation = run.lay_foundation(recipe, work, tmp_path / "further", start)
    assert foundation == run.Foundation(start.tokenizer_bytes, start.config.features)
    job = run.Job(recipe, work, tmp_path / "further", foundation, start)
    beginner = job.trainer("audio", Machine(), print_notes)
    assert all(torch.equal(value, loaded[name]) for name, value in beginner.model.state_dict().items())
    with pytest.raises(InputError, match="of other sizes"):
        run.run_recipe(recipe_of(model={"dim": 64}), data, tmp_path / "wide", bundle, start=start)

    # Everything is there: a second run only writes the bundle again.
    monkeypatch.setattr(prepare, "_executor", None)
    monkeypatch.setattr(run, "read_noise", lambda _: run.NoiseSource([], []))
    before = (bundle / "model.safetensors").read_bytes()
    run.run_recipe(recipe, data, work, bundle)
    assert (bundle / "model.safetensors").read_bytes() == before


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.timeout(300)  # processes import PyTorch anew
def test_of_branches_side_by_side_one_that_cannot_be_trained_says_why_and_the_other_is_done(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(video={"epochs": 1, "augment": {"noise_share": 1.0}}, fusion={"epochs": 1})
    packs = prepare_toy(data, tmp_path / "packs")
    job = run.Job(recipe, packs, tmp_path, run.lay_foundation(recipe, packs, tmp_path, None))
    monkeypatch.setattr(apart.os, "cpu_count", lambda: 2)
    reports: list[Report] = []
    with pytest.raises(AvsrError, match=r"^video: .*noise: not a pack"):
        apart.train_branches(job, Machine(), reports.append)
    assert {report.stage for report in reports if isinstance(report, StageProgress)} == {"audio"}
    assert [report.stage for report in reports if "failed: " in getattr(report, "text", "")] == ["video"]
    summary = finished_summary(tmp_path / "audio")
    assert summary is not None
    assert (summary.epochs, summary.steps) == (1, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, None])
def test_a_branch_that_was_told_to_stop_is_not_taken_for_done(
    error: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart.signal, "signal", lambda *_: None)
    monkeypatch.setattr(apart.torch, "set_num_threads", lambda _: None)
    trainer = SimpleNamespace(run=Mock(side_effect=error))
    job, said = SimpleNamespace(trainer=lambda *_: trainer), SimpleNamespace(put=print)
    with pytest.raises(SystemExit) if error else nullcontext():
        apart._train_alone(cast(run.Job, job), "audio", Machine(), 1, said)
    assert trainer.run.called


@pytest.mark.usefixtures("_in_this_process")
def test_speech_without_a_picture_teaches_the_ear_and_never_the_eye(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(speech="speech.tsv", fusion={"epochs": 1, "speech_repeat": 0.0})
    packs = run.prepare_packs(recipe, data, tmp_path)
    job = run.Job(recipe, packs, tmp_path, run.lay_foundation(recipe, packs, tmp_path, None))
    corpus = PreparedCorpus(packs / "corpus")
    for branch, hears_speech in {"audio": True, "video": False, "fusion": False}.items():
        clips = [clip for source in job.sources(branch, corpus) for clip in source.clips]
        assert [clip.speaker for clip in clips] == ["s0", "c"] if hears_speech else ["s0"]
        assert {clip.split for clip in clips} == {"train"}


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_moves_an_epoch_towards_rare_speakers(balance: float) -> None:
    counts = {"many": 80, "few": 20}
    clips = [Clip(f"{i}", speaker, "train", "", (), 1) for speaker, count in counts.items() for i in range(count)]
    corpus = cast(PreparedCorpus, SimpleNamespace(select=lambda split: clips))
    many, few = run.balanced_sources(corpus, balance)
    shares = many.repeat * len(many.clips), few.repeat * len(few.clips)
    assert sum(shares) == pytest.approx(100)
    assert shares[0] / shares[1] == pytest.approx(4 ** (1 - balance))


def test_packs_that_were_prepared_elsewhere_are_trained_from(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_executor", ThreadPoolExecutor)
    prepare_toy(data, tmp_path / "packs")
    prepare.prepare(read_table(data / "speech.tsv"), data, tmp_path / "packs" / "noise")
    monkeypatch.setattr(run, "prepare_packs", None)
    jobs: list[run.Job] = []

    def stop(job: run.Job, *_: object) -> None:
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_branches", stop)
    with pytest.raises(KeyboardInterrupt):
        run.run_recipe(recipe_of(), tmp_path / "packs", tmp_path / "work", tmp_path / "bundle")
    assert [job.packs for job in jobs] == [tmp_path / "packs"]
