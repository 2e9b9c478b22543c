"""The ablation: one budget for every kind of fusion, whatever interrupts it; and tables, plot and figures of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cuts import cut
from stand_ins import tiny_sizes

import avsr
from avsr.bundle import Bundle, load_bundle, save_bundle
from avsr.config import BundleConfig, FeatureConfig
from avsr.decode import Tokenizer, train_tokenizer
from avsr.errors import InputError
from avsr.model import AvsrModel
from avsr.nn.attention import Window
from avsr.train.augment.examples import AugmentConfig
from avsr.train.recipe import StageConfig
from avsr.types import NUM_MELS

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(avsr.__file__).parent / "talker" / "demo"
CALM = AugmentConfig(lip_shift_px=0.0, lip_zoom=0.0, lip_roll_deg=0.0, lip_mirror_share=0.0, lip_gain=0.0, gain_db=1.0)
STAGE = StageConfig(epochs=2, batch_size=4, learning_rate=0.01, warmup_epochs=0.5, talker_repeat=1.0, augment=CALM)
LEARNT = ("fusion", "fused_encoder", "fused_head")


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """``benchmark(name)``: a module of ``benchmarks/``, or the makers of toy clips."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.syspath_prepend(str(ROOT / "tests" / "train"))
        yield importlib.import_module


@pytest.fixture(scope="module")
def training(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("_fusion_training")


@pytest.fixture(scope="module")
def packs(benchmark: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four toy clips to train from, a talker, and a noise."""
    directory, toy = tmp_path_factory.mktemp("packs"), benchmark("toy_clips")
    clips = [toy.make_clip(list(toy.WORDS[index % 2 :][:2]), index) for index in range(4)]
    for name, made in (("corpus", clips), ("talkers", clips[:1]), ("noise", clips[:1])):
        toy.write_pack(directory / name, made)
    return directory


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny model of random weights."""
    tokenizer_bytes = train_tokenizer(["bin blue lay red"] * 4, 48)
    features = FeatureConfig(mel_mean=(-6.0,) * NUM_MELS, mel_std=(3.0,) * NUM_MELS)
    config = BundleConfig(name="tiny", version="0", model=tiny_sizes(48), features=features)
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_bundle(path, config, AvsrModel(config.model).state_dict(), tokenizer_bytes, "# tiny\n")
    return load_bundle(path)


@pytest.fixture(scope="module")
def whole(training: ModuleType, start: Bundle, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of an uninterrupted training."""
    return training.train_fusions(start, packs, STAGE, tmp_path_factory.mktemp("whole"))


def test_every_kind_learns_over_branches_that_stay_as_they_were(
    training: ModuleType, start: Bundle, whole: Any
) -> None:
    first, last = whole.log[0], whole.log[-1]
    assert last["epoch"] == 2
    assert {kind: last[kind] < 0.8 * first[kind] for kind in training.KINDS} == dict.fromkeys(training.KINDS, True)
    weights = start.state_dict()
    for kind, model in whole.models.items():
        assert model.config.fusion == kind
        assert 0 < training.num_learnt(model) < sum(x.numel() for x in model.parameters())
        frozen = {name: x for name, x in model.state_dict().items() if not name.startswith(LEARNT)}
        assert all(torch.equal(x, weights[name]) for name, x in frozen.items())


def test_every_kind_begins_with_the_same_weights_behind_its_fusion(training: ModuleType, start: Bundle) -> None:
    _, models = training._make_models(start, seed=1)
    behind = [
        {name: x for name, x in model.state_dict().items() if name.startswith(("fused_encoder", "fused_head"))}
        for model in models.values()
    ]
    assert all(torch.equal(other[name], x) for other in behind[1:] for name, x in behind[0].items())
    weights = start.state_dict()
    assert all(not torch.equal(x, weights[name]) for name, x in behind[0].items() if x.ndim == 2)


def test_the_shared_branches_give_what_each_whole_model_gives(
    training: ModuleType, benchmark: Callable[[str], ModuleType], start: Bundle
) -> None:
    toy = benchmark("toy_clips")
    collator = training.Collator(start.config.features, Tokenizer(start.tokenizer_bytes))
    batch = collator([collator.whole(*toy.make_clip(list(toy.WORDS[: 1 + index]), index)) for index in range(2)])
    branches, models = training._make_models(start, seed=1)
    state, window = branches.init_state(2, 0), Window(chunk_ticks=8, left_ticks=5)
    with torch.no_grad():
        audio = branches.encode_audio(batch.chunk, batch.valid, state, window)[0]
        video = branches.encode_video(batch.chunk, batch.valid, state, window)[0]
        for model in models.values():
            output, _ = model.eval().encode(batch.chunk, batch.valid, model.init_state(2, 0), window)
            fusion, fused = training.fuse(model, audio, video, batch, window)
            torch.testing.assert_close(fused, output.fused)
            torch.testing.assert_close(fusion.snr_db, output.fusion.snr_db)


def test_a_killed_training_ends_with_the_same_weights_as_one_that_was_not(
    training: ModuleType, start: Bundle, packs: Path, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epoch = training._Training.run_epoch

    def die_in_the_second(self: Any) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt
        run_epoch(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._Training, "run_epoch", die_in_the_second)
        training.train_fusions(start, packs, STAGE, tmp_path)
    torch.rand(7)
    resumed = training.train_fusions(start, packs, STAGE, tmp_path)
    for kind, model in whole.models.items():
        again = resumed.models[kind].state_dict()
        assert all(torch.equal(x, again[name]) for name, x in model.state_dict().items())
    with pytest.raises(InputError, match="another training"):
        training.train_fusions(start, packs, STAGE.model_copy(update={"seed": 2}), tmp_path)


def test_what_was_trained_is_measured_and_written(
    benchmark: Callable[[str], ModuleType],
    start: Bundle,
    packs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_corpora(tmp_path / "data")
    ablation = benchmark("ablation")
    monkeypatch.setattr(ablation, "STAGE", STAGE)
    command = ["ablation.py", str(packs), "--from", str(start.path), "--data", str(data), "--epochs", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--snr", "clean,-5", "--work", str(tmp_path / "work")])
    ablation.main()
    assert "measuring clip 1 of 1" in capsys.readouterr().out
    found = json.loads((tmp_path / "work" / "ablation.json").read_text())
    rows = [(row["system"], row["snr_db"]) for row in found["scores"]]
    hearing = ["gated", "ungated", "fixed", "concat", "audio"]
    assert sorted(rows, key=str) == sorted(
        [(s, db) for s in hearing for db in (None, -5.0)] + [("video", None)], key=str
    )
    assert set(found["learnt_weights"]) == set(hearing[:4])
    assert [entry["epoch"] for entry in found["epochs"]] == [1]
    table = (tmp_path / "work" / "ablation.md").read_text()
    assert "|  | clean | -5 dB |\n| --- | ---: | ---: |\n" in table
    assert table.count("cross-attention") >= 2
    assert "audio weight: concatenation" not in table
    assert (tmp_path / "work" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert load_bundle(tmp_path / "work" / "concat").config.model.fusion == "concat"


def test_without_packs_there_is_nothing_to_do(
    benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ablation.py"])
    benchmark("ablation").main()
    assert capsys.readouterr().out == "skipped: no packs are given\n"


def write_corpora(data: Path) -> Path:
    """Write tables of one talking head and of voices for babble."""
    data.mkdir()
    header = "path\tspeaker\tsplit\tseconds\ttext\twords\n"
    cut(DEMO / "bin_blue.mp4", data / "talk.mp4", 1.0)
    (data / "grid.tsv").write_text(header + "talk.mp4\ts1\tdev\t1\tbin blue\t\n")
    for index in range(2):
        cut(DEMO / "babble.ogg", data / f"{index}.ogg", 2.0)
    (data / "speech.tsv").write_text(header + "".join(f"{i}.ogg\tv{i}\tbabble\t2\t\t\n" for i in range(2)))
    (data / "noise.tsv").write_text(header)
    return data
