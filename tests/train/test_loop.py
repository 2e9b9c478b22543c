"""The training loop: it learns, keeps the weights that it says, and takes over earlier stages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import MakeTrainer, epochs, log, toy_trainer, weights

from avsr.errors import AvsrError, InputError
from avsr.train.checkpoint import read_tensors, write_tensors
from avsr.train.loop import CHECKPOINT, WEIGHTS, StageSummary
from avsr.train.packs.reader import PreparedCorpus
from avsr.train.recipe import Branch
from avsr.train.tracking import TENSORBOARD, StageNote, StageProgress
from avsr.train.validation import Validator


@pytest.fixture(scope="module")
def ear(corpus: PreparedCorpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageSummary]:
    """A finished stage of one epoch, and what it came to."""
    directory = tmp_path_factory.mktemp("stage") / "audio"
    return directory, toy_trainer(corpus, directory, "audio", epochs=1).run()


@pytest.mark.parametrize(
    ("branch", "scores"),
    [("audio", ["audio_wer"]), ("video", ["video_wer"]), ("fusion", ["audio_wer", "fused_wer", "video_wer"])],
)
def test_every_branch_learns_and_is_scored(
    make_trainer: MakeTrainer, tmp_path: Path, branch: Branch, scores: list[str]
) -> None:
    summary = make_trainer(tmp_path, branch, epochs=3, validate_every=2).run()
    found = epochs(tmp_path)
    assert [line["epoch"] for line in found] == [1, 2, 3]
    assert found[-1]["loss"] < 0.6 * found[0]["loss"]
    scored = [sorted(name for name in line if name.endswith("_wer")) for line in found]
    assert scored == [[], scores, scores]  # every second epoch, and the last
    steps = [line for line in log(tmp_path) if "step" in line]
    assert summary.steps == len(steps)
    assert sorted(summary.scores) == scores
    assert 0 < summary.hours < 3 * 10 * 60 * 0.04 / 3600


def test_only_the_branch_of_the_stage_learns(
    make_trainer: MakeTrainer, ear: tuple[Path, StageSummary], tmp_path: Path
) -> None:
    before, after = make_trainer(tmp_path, "audio", epochs=1).model.state_dict(), weights(ear[0])
    changed = {name for name, value in before.items() if not torch.equal(value, after[f"model.{name}"])}
    assert changed
    assert all(name.startswith("audio") for name in changed)


def test_a_finished_run_is_not_trained_again(make_trainer: MakeTrainer, ear: tuple[Path, StageSummary]) -> None:
    directory, first = ear
    before = (directory / WEIGHTS).stat().st_mtime_ns
    again = make_trainer(directory, "audio", epochs=1)
    assert again.run() == first
    assert (directory / WEIGHTS).stat().st_mtime_ns == before
    saved = weights(directory)
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in again.model.state_dict().items())


def test_fusion_takes_over_exactly_each_trained_branch(
    make_trainer: MakeTrainer, ear: tuple[Path, StageSummary], tmp_path: Path
) -> None:
    make_trainer(tmp_path / "video", "video", epochs=1, seed=3).run()
    trainer = make_trainer(tmp_path / "fusion", "fusion", seed=4)
    own = {name: value.clone() for name, value in trainer._objective.state_dict().items()}
    trainer.load_branches(ear[0], tmp_path / "video")
    sources = {"audio": weights(ear[0]), "video": weights(tmp_path / "video")}
    num_taken = {"audio": 0, "video": 0, "fus": 0}
    for name, value in trainer._objective.state_dict().items():
        branch = next(branch for branch in num_taken if name.split(".")[1].startswith(branch))
        num_taken[branch] += 1
        assert torch.equal(value, own[name] if branch == "fus" else sources[branch][name])
    assert all(count > 2 for count in num_taken.values())


def test_a_batch_in_which_a_sense_is_always_missing_can_be_learned_from(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    for name in ("drop_audio_share", "drop_video_share"):
        make_trainer(tmp_path / name, "fusion", epochs=1, augment={name: 1.0}, alignment_weight=0.1).run()
        assert all(torch.isfinite(value).all() for value in weights(tmp_path / name).values())


def score_in_turn(monkeypatch: pytest.MonkeyPatch, *rates: float) -> None:
    """Make validations find these word error rates, one after the other."""
    left = list(rates)
    monkeypatch.setattr(Validator, "__call__", lambda self, objective: {"audio_wer": left.pop(0)})


def test_a_stage_without_progress_ends_early_with_its_best_weights(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_in_turn(monkeypatch, 0.9, 0.5, 0.6, 0.7)
    settings = {"schedule": "constant", "validate_every": 1, "epochs": 9}
    summary = make_trainer(tmp_path / "early", "audio", patience=2, **settings).run()
    assert (summary.epochs, summary.chosen, summary.scores) == (4, "best, after epoch 2", {"audio_wer": 0.5})

    score_in_turn(monkeypatch, 0.9, 0.5)
    make_trainer(tmp_path / "short", "audio", **settings | {"epochs": 2}).run()
    early, short = weights(tmp_path / "early"), weights(tmp_path / "short")
    assert all(torch.equal(early[name], value) for name, value in short.items())


@pytest.mark.parametrize(("found", "is_kept"), [(0.4, True), (0.5, False)])
def test_the_mean_of_the_last_epochs_is_kept_only_where_it_reads_better(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: float, is_kept: bool
) -> None:
    score_in_turn(monkeypatch, 0.5, found)
    said: list[str] = []
    seen: list[dict[str, torch.Tensor]] = []

    def note(report: StageNote | StageProgress) -> None:
        if isinstance(report, StageNote) and report.text.startswith("epoch "):  # the end of an epoch
            seen.append({name: x.clone() for name, x in trainer._objective.state_dict().items()})
        elif isinstance(report, StageNote):
            said.append(report.text)

    trainer = make_trainer(tmp_path, "audio", None, note, epochs=3, average_last=2)
    summary = trainer.run()
    assert any("mean of the last 2 epochs" in text for text in said)
    assert summary.scores == {"audio_wer": found if is_kept else 0.5}
    assert ("mean" in summary.chosen) is is_kept
    kept, name = weights(tmp_path), "model.audio_head.weight"
    expected = (seen[1][name] + seen[2][name]) / 2 if is_kept else seen[2][name]
    assert torch.allclose(kept[name], expected)
    assert not list(tmp_path.glob("epoch-*"))


def test_the_moving_average_is_what_is_kept(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(tmp_path / "plain", "video", epochs=1).run()
    make_trainer(tmp_path / "mean", "video", epochs=1, ema_decay=0.9).run()
    plain, mean = weights(tmp_path / "plain"), weights(tmp_path / "mean")
    raw = weights(tmp_path / "mean", CHECKPOINT)
    assert all(torch.equal(plain[name], value) for name, value in raw.items())  # averaging changes no step
    average = read_tensors(tmp_path / "mean" / CHECKPOINT)["average"]["model"]
    assert all(torch.equal(mean[f"model.{name}"], value) for name, value in average.items())
    moved = [name for name in plain if not torch.equal(plain[name], mean[name])]
    assert all(name.split(".")[1].startswith("video") for name in moved)
    assert any(name.endswith("running_mean") for name in moved)


def test_seen_and_unseen_speakers_are_scored_apart(
    make_trainer: MakeTrainer, corpus: PreparedCorpus, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, "audio", epochs=1)
    validate = trainer._validate
    assert sorted(validate(trainer._objective)) == ["audio_wer"]  # the toy clips have one speaker
    validate._seen = frozenset()
    assert sorted(validate(trainer._objective)) == ["audio_wer"]
    speakers = iter(("s1", "s2", "s1", "s1"))
    dev = corpus.select("dev")
    renamed = {
        clip: type(clip)(clip.path, next(speakers), clip.split, clip.text, clip.words, clip.num_ticks) for clip in dev
    }
    back = {new: old for old, new in renamed.items()}
    validate._seen = frozenset({"s1"})
    validate._dev = type(validate._dev)(
        type("Renamed", (), {"load": staticmethod(lambda clip: corpus.load(back[clip]))})(), list(back)
    )
    scores = validate(trainer._objective)
    assert sorted(scores) == ["audio_wer", "dev_seen_wer", "dev_unseen_wer"]
    assert math.isclose(scores["audio_wer"], 0.75 * scores["dev_seen_wer"] + 0.25 * scores["dev_unseen_wer"])


def test_capitals_and_marks_of_a_transcript_are_no_errors(
    make_trainer: MakeTrainer, corpus: PreparedCorpus, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, "audio", epochs=1)
    validate = trainer._validate
    plain = validate(trainer._objective)
    back = {replace(clip, text=f"{clip.text.upper()}!"): clip for clip in corpus.select("dev")}
    validate._dev = type(validate._dev)(
        type("Written", (), {"load": staticmethod(lambda clip: corpus.load(back[clip]))})(), list(back)
    )
    validate._greedy = lambda best: "bin"  # type: ignore[method-assign]
    written = validate(trainer._objective)
    validate._dev = type(validate._dev)(corpus, list(back.values()))
    assert written == validate(trainer._objective) != plain


def test_there_must_be_something_to_learn_from_and_to_judge_by(corpus: PreparedCorpus, tmp_path: Path) -> None:
    class Only:
        def __init__(self, *splits: str) -> None:
            self._splits = splits

        def select(self, split: str) -> list[object]:
            return list(corpus.select(split)) if split in self._splits else []

    with pytest.raises(InputError, match="no dev clips"):
        toy_trainer(Only("train"), tmp_path, "audio")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no clips to train from"):
        toy_trainer(Only(), tmp_path, "audio")  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_ends_the_stage_and_leaves_no_checkpoint_of_it(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    with pytest.raises(AvsrError, match=r"audio: epoch 1, step 2: .*lower learning_rate"):
        make_trainer(tmp_path, "audio", epochs=1, learning_rate=1e30).run()
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_place_that_cannot_be_written_to_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent/weights\.pt: cannot be written \(.*No such file"):
        write_tensors(tmp_path / "absent" / WEIGHTS, {})


def test_a_checkpoint_of_other_sizes_or_damaged_is_refused(
    make_trainer: MakeTrainer, ear: tuple[Path, StageSummary], tmp_path: Path
) -> None:
    saved = read_tensors(ear[0] / CHECKPOINT)
    other = {name: x[:1] if x.ndim else x for name, x in saved["model"].items()}
    (tmp_path / "other").mkdir()
    write_tensors(tmp_path / "other" / CHECKPOINT, saved | {"model": other})
    with pytest.raises(InputError, match="a network of other sizes"):
        make_trainer(tmp_path / "other", "audio", epochs=1).run()
    damaged = make_trainer(tmp_path, "audio", epochs=1)
    (tmp_path / CHECKPOINT).write_bytes((ear[0] / CHECKPOINT).read_bytes()[:999])
    with pytest.raises(InputError, match="cannot be read"):
        damaged.run()
    with pytest.raises(InputError, match="cannot be read"):
        make_trainer(tmp_path / "fusion", "fusion").load_branches(tmp_path / "nowhere")


def test_what_is_measured_can_be_looked_at_later(
    make_trainer: MakeTrainer, ear: tuple[Path, StageSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    directory, summary = ear
    events = EventAccumulator(str(directory / TENSORBOARD))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, summary.steps + 1))
    parts = [[event.value for event in events.Scalars(f"loss_terms/{name}")] for name in ("audio_ctc", "audio_frames")]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(np.sum(parts, axis=0), rel=1e-4)
    assert all(value > 0 for part in parts for value in part)
    assert events.Scalars("audio_wer")[0].value == pytest.approx(summary.scores["audio_wer"])

    # Without TensorBoard a line says so, and nothing else changes.
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    said: list[object] = []
    make_trainer(tmp_path / "plain", "audio", None, said.append, epochs=1).run()
    assert sum("pip install 'avsr[train]'" in str(report) for report in said) == 1
    assert log(tmp_path / "plain") == log(directory)
