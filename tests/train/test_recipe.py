"""Recipes: the shipped one is valid, and a tiny one goes all the way from clips to a bundle that captions."""

from __future__ import annotations

import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from stand_ins import tiny_recognizer
from toy_clips import encode_once, make_clip, write_pack
from toy_recipe import SIZES, recipe_of
from toy_training import FEATURES

import avsr
from avsr.bundle import LM_FILE, MAX_BYTES, load_bundle
from avsr.config import ModelConfig
from avsr.corpora import read_table
from avsr.decode import train_tokenizer
from avsr.disk import lock
from avsr.errors import InputError, TextError
from avsr.features import LogMel
from avsr.train import branches, gather, run
from avsr.train.augment.noise import NoiseSource
from avsr.train.checkpoint import read_tensors
from avsr.train.job import Job, Preprocessing, balanced_sources
from avsr.train.loop import WEIGHTS, StageSummary, Trainer
from avsr.train.machine import Machine
from avsr.train.packs import prepare, workers
from avsr.train.packs.reader import Clip, ClipData, MemoryBudget, PreparedCorpus
from avsr.train.statistics import MIN_STD, measure_features
from avsr.train.tracking import print_notes
from avsr.types import FloatArray

DEMO_CLIP = Path(avsr.__file__).parent / "talker" / "demo" / "bin_blue.mp4"


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
    assert measure_features([np.zeros(6400, np.float32)]).mel_std[0] == MIN_STD
    assert len(measure_features([]).mel_mean) == 80


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo clip, twice, as a corpus; and a little noise."""
    monkeypatch.setattr(prepare, "encode", lambda path: encode_once(path.resolve()))
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "clip.mp4").symlink_to(DEMO_CLIP)
    (directory / "babble.ogg").symlink_to(DEMO_CLIP.with_name("babble.ogg"))
    header = "path\tspeaker\tsplit\tseconds\ttext\twords\n"
    said = "bin blue at f\tbin:0.4-0.6 blue:0.6-0.831 at:0.831-1.015 f:1.015-1.151"
    rows = "".join(f"clip.mp4\ts{i}\t{split}\t4\t{said}\n" for i, split in enumerate(("train", "dev")))
    (directory / "toy.tsv").write_text(header + rows)
    read = "babble.ogg\tc\ttrain\t8\tbin blue\t\nbabble.ogg\tc\tunseen\t8\tbin blue\t\n"
    (directory / "speech.tsv").write_text(header + "babble.ogg\tb\tbabble\t8\t\t\n" * 2 + read)
    (directory / "noise.tsv").write_text(header + "babble.ogg\tb\tnoise\t8\t\t\n" * 2)
    return directory


def prepare_toy(data: Path, packs: Path) -> Path:
    """Prepare the clips alone."""
    prepare.prepare(read_table(data / "toy.tsv"), data, packs / "corpus")
    return packs


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried here is the way of the data, not the processes."""
    monkeypatch.setattr(workers, "open_executor", ThreadPoolExecutor)
    monkeypatch.setattr(branches, "num_cores", lambda: 1)


@pytest.mark.usefixtures("_in_this_process")
def test_a_recipe_goes_from_clips_to_a_bundle_that_captions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, work, bundle = recipe_of(lm={"order": 2, "texts": ["a.txt"]}), tmp_path / "work", tmp_path / "bundle"
    with pytest.raises(InputError, match=r"toy\.tsv: cannot be written .*another directory"):
        run.run_recipe(recipe_of(), data, data / "toy.tsv", bundle)
    with pytest.raises(InputError, match=r"a\.txt"):
        run.run_recipe(recipe, data, work, bundle)
    assert not work.exists()  # said before anything is done
    (data / "a.txt").write_text("red now\n")
    larger = recipe_of(lm={"order": 3, "texts": ["a.txt"]})
    for limit in ("avsr.bundle.MAX_BYTES", "avsr.train.run.MAX_LM_TEXT_BYTES"):
        with monkeypatch.context() as patch, pytest.raises(InputError, match="prune it under lm:"):
            patch.setitem(MAX_BYTES, LM_FILE, 9) if limit.endswith("MAX_BYTES") else patch.setattr(limit, 9)
            run.run_recipe(larger, data, work, bundle)
    assert not (work / "audio").exists()
    noted = work / run.RECIPE_FILE
    older = noted.read_text().replace("num_voices: 0\n", "")  # from before there were any
    assert older != noted.read_text()
    noted.write_text(older)
    run.run_recipe(recipe, data, work, bundle)  # what was prepared is kept, though lm: is another
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
    assert card.startswith("# toy\n\n## Clips\n")
    clips = PreparedCorpus(work / "corpus").select("train")
    counts = f"{len(clips)} | {len({clip.speaker for clip in clips})}"
    assert re.search(rf"\n\| corpus \| train \| {re.escape(counts)} \| 0\.00 \| \d+ % \|\n", card)
    assert [line.split(" | ")[0] for line in card.splitlines()[-3:]] == ["| audio", "| video", "| fusion"]
    assert "| 1 | 1 | 0.00 | after epoch 1 | audio " in card

    # Another model can go on from it, in a folder of its own.
    start = load_bundle(bundle)
    with pytest.raises(InputError, match="another recipe or model"):
        run.run_recipe(recipe, data, work, bundle, start=start)
    with pytest.raises(InputError, match="another recipe or model"):
        run.run_recipe(recipe_of(vocab_size=45), data, work, bundle)
    (tmp_path / "further").mkdir()
    packs = {"corpus": work / "corpus"}
    preprocessing = run.make_preprocessing(recipe, packs, tmp_path / "further", start)
    assert preprocessing == Preprocessing(start.tokenizer_bytes, start.config.features)
    job = Job(recipe, packs, tmp_path / "further", preprocessing, start)
    beginner = job.trainer("audio", Machine(), print_notes)
    assert all(torch.equal(value, loaded[name]) for name, value in beginner.model.state_dict().items())
    with pytest.raises(InputError, match="sizes differ from"):
        run.run_recipe(recipe_of(model={"dim": 64}), data, tmp_path / "wide", bundle, start=start)

    # Everything is there: a second run only writes the bundle again.
    monkeypatch.setattr(workers, "open_executor", None)
    monkeypatch.setattr("avsr.train.job.read_noise", lambda _: NoiseSource([], []))
    before = (bundle / "model.safetensors").read_bytes()
    run.run_recipe(recipe, data, work, bundle)
    assert (bundle / "model.safetensors").read_bytes() == before


@pytest.mark.usefixtures("_in_this_process")
def test_speech_without_pictures_trains_the_audio_branch_and_never_the_video_branch(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(speech="speech.tsv", fusion={"epochs": 1, "speech_repeat": 0.0})
    packs = gather.gather_packs(recipe, data, tmp_path)
    preprocessing = run.make_preprocessing(recipe, packs, tmp_path, None)
    texts = [clip.text for pack in packs.values() for clip in PreparedCorpus(pack).select("train")]
    assert len(texts) == 2
    assert preprocessing.tokenizer_bytes == train_tokenizer(texts, recipe.vocab_size)
    job = Job(recipe, packs, tmp_path, preprocessing)
    corpus = PreparedCorpus(packs["corpus"])
    for branch, hears_speech in {"audio": True, "video": False, "fusion": False}.items():
        clips = [clip for source in job.sources(branch, corpus) for clip in source.clips]
        assert [clip.speaker for clip in clips] == ["s0", "c"] if hears_speech else ["s0"]
        assert {clip.split for clip in clips} == {"train"}


def test_sentences_without_a_face_train_all_but_the_video_branch(pack: Path, tmp_path: Path) -> None:
    clip, made = make_clip(["bin"], 0)
    heard = replace(made, lips=made.lips * 0, visible=~made.heard)
    packs = {name: tmp_path / name for name in ("voices", "talkers")}
    for name, directory in packs.items():
        write_pack(directory, [(replace(clip, speaker=name), heard)])
    recipe = recipe_of(num_voices=1, num_talkers=1, audio={"epochs": 1, "voice_repeat": 3.0})
    job = Job(recipe, packs, tmp_path, Preprocessing(b"", FEATURES))
    repeats = {
        branch: {source.clips[0].speaker: source.repeat for source in job.sources(branch, PreparedCorpus(pack))}
        for branch in ("audio", "video", "fusion")
    }
    assert repeats == {
        "audio": {"s1": 1.0, "talkers": 0.5, "voices": 3.0},
        "video": {"s1": 1.0, "talkers": 0.5},
        "fusion": {"s1": 1.0, "talkers": 0.5, "voices": 0.5},
    }
    without = replace(job, recipe=recipe_of(fusion={"epochs": 1, "voice_repeat": 0.0}, num_voices=1))
    assert len(without.sources("fusion", PreparedCorpus(pack))) == 1


def test_all_packs_of_a_stage_share_one_memory_budget_also_in_a_worker(pack: Path, tmp_path: Path) -> None:
    clip, made = make_clip(["bin"], 0)
    packs = {name: tmp_path / name for name in ("voices", "talkers")}
    for directory in packs.values():
        write_pack(directory, [(clip, made)])
    job = Job(recipe_of(num_voices=1, num_talkers=1), packs, tmp_path, Preprocessing(b"", FEATURES))
    budget = MemoryBudget(made.num_bytes)
    sources = job.sources("audio", PreparedCorpus(pack, budget))
    assert len(sources) == 3
    for read in (sources, pickle.loads(pickle.dumps(sources))):
        corpora = [source.corpus for source in read]
        for source in reversed(read):
            source.corpus.load(source.clips[0])
        assert len({id(corpus.budget) for corpus in corpora}) == 1
        assert [len(corpus._memory) for corpus in corpora] == [0, 0, 1]


def test_a_branch_without_epochs_needs_a_model_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"epochs: 0.*--from"):
        run.run_recipe(recipe_of(video={"epochs": 0}), tmp_path, tmp_path / "work", tmp_path / "bundle")
    assert not (tmp_path / "work").exists()
    with pytest.raises(ValueError, match=r"fusion\.epochs is 0"):
        recipe_of(fusion={"epochs": 0})


def test_words_are_never_swapped_for_the_video_branch() -> None:
    with pytest.raises(ValueError, match=r"video\.augment\.word_swap_share"):
        recipe_of(video={"epochs": 1, "augment": {"word_swap_share": 0.3}})


def test_a_branch_without_epochs_stays_as_it_is_until_fusion(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "corpus").symlink_to(pack)
    tiny_recognizer(tmp_path / "start")
    start = load_bundle(tmp_path / "start")
    begun: dict[str, dict[str, torch.Tensor]] = {}
    run_stage = Trainer.run

    def remember(trainer: Trainer) -> StageSummary:
        begun[trainer._branch] = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        return run_stage(trainer)

    monkeypatch.setattr(Trainer, "run", remember)
    recipe = recipe_of(video={"epochs": 0}, fusion={"epochs": 1})
    run.run_recipe(recipe, tmp_path / "packs", tmp_path / "work", tmp_path / "bundle", start=start)
    assert list(begun) == ["audio", "fusion"]
    assert not (tmp_path / "work" / "video").exists()
    kept = start.state_dict()
    moved = {name for name, value in begun["fusion"].items() if not torch.equal(value, kept[name])}
    assert moved
    assert all(name.startswith("audio") for name in moved)
    card = load_bundle(tmp_path / "bundle").card
    ours, theirs = card.split("\n## Initial model\n\n")
    assert [line.split(" | ")[0] for line in ours.splitlines()[-2:]] == ["| audio", "| fusion"]
    origin = f"tiny {start.config.version} (SHA-256 {start.sha256})"
    assert theirs == f"Training started from {origin}, whose card follows.\n\n#{start.card}"


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_moves_an_epoch_towards_rare_speakers(balance: float) -> None:
    counts = {"many": 80, "few": 20}
    clips = [Clip(f"{i}", speaker, "train", "", (), 1) for speaker, count in counts.items() for i in range(count)]
    corpus = cast(PreparedCorpus, SimpleNamespace(select=lambda split: clips))
    many, few = balanced_sources(corpus, balance)
    shares = many.repeat * len(many.clips), few.repeat * len(few.clips)
    assert sum(shares) == pytest.approx(100)
    assert shares[0] / shares[1] == pytest.approx(4 ** (1 - balance))


def test_packs_that_were_prepared_elsewhere_are_trained_from(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is no pack of comes from the tables beside them, which need not be there for the others."""
    monkeypatch.setattr(workers, "open_executor", ThreadPoolExecutor)
    prepare_toy(data, data)
    (data / "toy.tsv").unlink()
    corpus, noise = data / "corpus", data / "noise"
    work = tmp_path / "work"
    assert gather.gather_packs(recipe_of(), data, work) == {"corpus": corpus, "noise": work / "noise"}
    assert PreparedCorpus(work / "noise").select("babble", "noise")
    prepare.prepare(read_table(data / "speech.tsv"), data, noise)
    (data / "speech.tsv").unlink()
    monkeypatch.setattr(gather, "prepare", None)
    jobs: list[Job] = []

    def stop(job: Job, *_: object) -> None:
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_branches", stop)
    with pytest.raises(KeyboardInterrupt):
        run.run_recipe(recipe_of(), data, work, tmp_path / "bundle")
    assert [job.packs for job in jobs] == [{"corpus": corpus, "noise": noise}]
    made = {"noise_share": 0.5, "noise": {"babble": 0.0, "recorded": 0.0, "coloured": 1.0}}
    with pytest.raises(KeyboardInterrupt):  # nothing is needed for noise that is made
        run.run_recipe(recipe_of(fusion={"epochs": 1, "augment": made}), data, tmp_path / "own", tmp_path / "bundle")
    assert list(jobs[-1].packs) == ["corpus"]
    (noise / "failed.tsv").unlink()
    with pytest.raises(InputError, match="noise: is not finished"):
        run.run_recipe(recipe_of(), data, work, tmp_path / "bundle")
    with pytest.raises(InputError, match="is a pack itself"):
        run.run_recipe(recipe_of(), corpus, work, tmp_path / "bundle")


@pytest.mark.usefixtures("_in_this_process")
def test_what_cannot_be_used_is_found_before_the_work_begins(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, bundle = tmp_path / "work", tmp_path / "bundle"

    def refuse(error: type[InputError], message: str) -> None:
        with pytest.raises(error, match=message):
            run.run_recipe(recipe_of(), data, work, bundle, start=load_bundle(start))
        assert not (work / "audio").exists()

    tiny_recognizer(start := tmp_path / "start")
    noise = (data / "noise.tsv").rename(tmp_path / "noise.tsv")
    refuse(InputError, r"noise\.tsv")
    assert not (work / "corpus").exists()
    noise.rename(data / "noise.tsv")
    table = (data / "toy.tsv").read_text()
    (data / "toy.tsv").write_text(table.replace("bin blue at f\t", "bin blue at 7\t"))
    refuse(TextError, r"clip\.mp4 \(corpus\): 'bin blue at 7' cannot be spelled")
    (data / "toy.tsv").write_text(table)
    write_pack(data / "noise", [make_clip(["bin"], 0)])
    refuse(InputError, "noise: has no clip of the splits 'babble' and 'noise'")


def test_work_on_another_model_is_not_resumed(tmp_path: Path) -> None:
    """Two models may have the same name and version: what `finetune` makes of `default` has."""
    tiny_recognizer(tmp_path / "start")
    start = load_bundle(tmp_path / "start")
    (tmp_path / "work").mkdir()
    for _ in range(2):
        run._claim(tmp_path / "work", recipe_of(), start)
        (tmp_path / "work" / "fusion").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="another recipe or model"):
        run._claim(tmp_path / "work", recipe_of(), replace(start, weights=b"others"))


def test_work_with_other_clips_is_not_resumed(tmp_path: Path) -> None:
    """Else an epoch might have fewer steps than are done of it already, and a card tell of clips never heard."""
    work, corpus = tmp_path / "work", tmp_path / "corpus"
    work.mkdir()
    one, two, three = (make_clip(["bin", word], index) for index, word in enumerate(("blue", "lay", "red")))
    tested = replace(three[0], split="test"), three[1]

    def claim(*made: tuple[Clip, ClipData]) -> None:
        shutil.rmtree(corpus, ignore_errors=True)
        write_pack(corpus, made)
        run._claim_clips(work, {"corpus": corpus})

    claim(one)
    claim(one, two)  # nothing was learnt yet
    (work / "audio").mkdir()
    claim(two, tested, one)  # the same, prepared in another order, with one that nothing is learnt from
    for other in ([one], [one, two, three], [one, (replace(two[0], text="bin red"), two[1])], [one, (two[0], one[1])]):
        with pytest.raises(InputError, match=r"started with other clips than .*corpus has now; .* another --work"):
            claim(*other)
    for damaged in ("[1]", "{"):
        (work / run.CLIPS_FILE).write_text(damaged)
        with pytest.raises(InputError, match=r"clips\.json: is damaged .*another --work"):
            claim(one, two)


def test_a_slip_in_a_recipe_can_be_mended_until_a_stage_begins(tmp_path: Path) -> None:
    """Its packs fit the mended one; what was made of them does not."""
    run._claim(tmp_path, recipe_of(vocab_size=4000), None)
    made = [tmp_path / name for name in (run.TOKENIZER_FILE, run.FEATURES_FILE)]
    for path in made:
        path.touch()
    run._claim(tmp_path, recipe_of(), None)
    assert not any(path.exists() for path in made)
    (tmp_path / "video").mkdir()
    run._claim(tmp_path, recipe_of(), None)
    with pytest.raises(InputError, match="another recipe or model"):
        run._claim(tmp_path, recipe_of(vocab_size=40), None)


def test_two_runs_never_share_a_work_directory(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "STOP_PATIENCE_S", 0.0)
    with lock(tmp_path / "work"), pytest.raises(InputError, match="work: another process is writing it"):
        run.run_recipe(recipe_of(), data, tmp_path / "work", tmp_path / "bundle")
    assert not (tmp_path / "work" / run.RECIPE_FILE).exists()


@pytest.mark.parametrize("missing", ["train", "dev"])
def test_a_table_without_a_needed_split_is_refused_before_a_clip_is_read(
    missing: str, data: Path, tmp_path: Path
) -> None:
    table = data / "toy.tsv"
    table.write_text(table.read_text().replace(f"\t{missing}\t", "\tdemo\t"))
    with pytest.raises(InputError, match=f"no clip is in the split '{missing}'; the splits are: "):
        run.run_recipe(recipe_of(), data, tmp_path / "work", tmp_path / "bundle")
    assert not (tmp_path / "work" / "corpus").exists()
