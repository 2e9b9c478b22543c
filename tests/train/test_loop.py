"""The training loop: it learns, and a run that was killed ends with the very same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stand_ins import tiny_sizes

from avsr.config import FeatureConfig
from avsr.decode import Tokenizer
from avsr.train.augment import AugmentConfig
from avsr.train.loop import CHECKPOINT, Source, Trainer
from avsr.train.noise import NoiseSource
from avsr.train.prepared import PreparedCorpus
from avsr.train.recipe import Branch, StageConfig

MakeTrainer = Callable[..., Trainer]
CALM = AugmentConfig(lip_shift_px=0.0, lip_zoom=0.0, lip_roll_deg=0.0, lip_mirror_share=0.0, lip_gain=0.0, gain_db=1.0)


@pytest.fixture
def make_trainer(corpus: PreparedCorpus, tokenizer: Tokenizer, features: FeatureConfig) -> MakeTrainer:
    """``make_trainer(directory, branch, epochs=2, **settings)``: a trainer of a tiny network on the toy clips."""

    def make(directory: Path, branch: Branch, epochs: int = 2, **settings: object) -> Trainer:
        values = {"batch_size": 4, "learning_rate": 0.01, "warmup_epochs": 0.5, "augment": CALM} | settings
        stage = StageConfig.model_validate({"epochs": epochs, **values})
        return Trainer(
            branch,
            tiny_sizes(tokenizer.vocab_size),
            features,
            stage,
            tokenizer,
            [Source(corpus, corpus.select("train")), Source(corpus, corpus.select("dev")[:2], repeat=0.5)],
            Source(corpus, corpus.select("dev")),
            NoiseSource([], []),
            directory,
        )

    return make


def checkpoint(directory: Path) -> dict[str, object]:
    saved: dict[str, object] = torch.load(directory / CHECKPOINT, weights_only=True)
    return saved


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """All weights in the checkpoint, by name."""
    saved = checkpoint(directory)
    return {f"{part}.{name}": x for part in ("model", "frame_heads") for name, x in saved[part].items()}


def losses(directory: Path) -> list[float]:
    return [record["loss"] for record in checkpoint(directory)["log"]]


@pytest.mark.parametrize(
    ("branch", "scores"),
    [("audio", ["audio_wer"]), ("video", ["video_wer"]), ("fusion", ["audio_wer", "fused_wer", "video_wer"])],
)
def test_every_branch_learns_and_is_scored(
    make_trainer: MakeTrainer, tmp_path: Path, branch: Branch, scores: list[str]
) -> None:
    make_trainer(tmp_path, branch, epochs=4, validate_every=3).run()
    found = losses(tmp_path)
    assert len(found) == 4
    assert found[-1] < 0.6 * found[0]
    scored = [sorted(name for name in record if name.endswith("_wer")) for record in checkpoint(tmp_path)["log"]]
    assert scored == [[], [], scores, scores]  # every third epoch, and the last


def test_only_the_branch_of_the_stage_learns(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "audio", epochs=1)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("audio") for name in changed)


class LostMachineError(Exception):
    """Stands for a kill."""


def test_a_killed_run_ends_with_the_same_weights_as_one_that_was_not(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(tmp_path / "whole", "fusion", epochs=2).run()

    killed = make_trainer(tmp_path / "killed", "fusion", epochs=2)
    step, num_steps = killed._optimiser.step, 0

    def step_and_die() -> None:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 4:  # in the second epoch: the first has 2 or 3
            raise LostMachineError
        step()

    monkeypatch.setattr(killed._optimiser, "step", step_and_die)
    with pytest.raises(LostMachineError):
        killed.run()
    assert checkpoint(tmp_path / "killed")["epoch"] == 1
    torch.rand(7)
    make_trainer(tmp_path / "killed", "fusion", epochs=2).run()

    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


def test_a_finished_run_is_not_trained_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(tmp_path, "audio", epochs=1).run()
    before = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    model = make_trainer(tmp_path, "audio", epochs=1).run()
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == before
    saved = weights(tmp_path)
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in model.state_dict().items())


def test_fusion_takes_over_exactly_each_trained_branch(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(tmp_path / "audio", "audio", epochs=1, seed=2).run()
    make_trainer(tmp_path / "video", "video", epochs=1, seed=3).run()
    trainer = make_trainer(tmp_path / "fusion", "fusion", seed=4)
    own = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.load_branches(tmp_path / "audio", tmp_path / "video")
    sources = {branch: weights(tmp_path / branch) for branch in ("audio", "video")}
    taken = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    taken |= {f"frame_heads.{name}": value for name, value in trainer._frame_heads.state_dict().items()}
    num_taken = {"audio": 0, "video": 0, "fus": 0}
    for name, value in taken.items():
        branch = next(branch for branch in num_taken if name.split(".")[1].startswith(branch))
        num_taken[branch] += 1
        if branch != "fus":
            assert torch.equal(value, sources[branch][name])
        elif name.startswith("model."):
            assert torch.equal(value, own[name.removeprefix("model.")])
    assert all(count > 2 for count in num_taken.values())


def test_a_batch_in_which_a_sense_is_always_missing_can_be_learned_from(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    for share in ({"drop_audio_share": 1.0}, {"drop_video_share": 1.0}):
        augment = CALM.model_copy(update=share)
        directory = tmp_path / next(iter(share))
        make_trainer(directory, "fusion", epochs=1, augment=augment).run()
        assert all(torch.isfinite(value).all() for value in weights(directory).values())
