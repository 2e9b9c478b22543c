"""The losses: shares add up to the whole, what is absent teaches nothing, and alignment reaches the branches alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stand_ins import tiny_sizes
from toy_clips import make_clip

from avsr.config import FeatureConfig
from avsr.decode import Tokenizer
from avsr.model import AvsrModel
from avsr.train.augment.examples import Example
from avsr.train.batch import Batch, Collator
from avsr.train.objective import BRANCH_LOSS_WEIGHT, Objective, branch_divergence, count_terms
from avsr.train.packs.reader import ClipData
from avsr.train.recipe import Branch

CLIPS = (["bin", "red"], ["lay", "blue", "red"], ["red"])


@pytest.fixture
def examples() -> list[Example]:
    """Three clips: of the second the lips are missing, of the third the sound for a while."""
    made = [make_clip(list(words), index) for index, words in enumerate(CLIPS)]
    found = [Example(data, clip.words, clip.text, 10.0 * index) for index, (clip, data) in enumerate(made)]
    found[1] = replace(found[1], data=without(found[1].data, "visible", slice(None)))
    found[2] = replace(found[2], data=without(found[2].data, "heard", slice(5, 20)))
    return found


def without(data: ClipData, sense: str, ticks: slice) -> ClipData:
    mask = getattr(data, sense).copy()
    mask[ticks] = False
    return replace(data, **{sense: mask})


@pytest.fixture
def collate(features: FeatureConfig, tokenizer: Tokenizer) -> Collator:
    return Collator(features, tokenizer)


def objective(branch: Branch, tokenizer: Tokenizer, alignment_weight: float = 0.0) -> Objective:
    torch.manual_seed(2)
    sizes = tiny_sizes(tokenizer.vocab_size).model_copy(update={"dropout": 0.0})
    # Batch normalisation sees its own part only; its statistics are frozen here.
    return Objective(branch, AvsrModel(sizes), tokenizer.blank_id, alignment_weight).eval()


def gradients(of: Objective, parts: list[Batch | None]) -> tuple[float, dict[str, torch.Tensor]]:
    counted = [count_terms(of.branch, part) for part in parts]
    counts = {name: float(sum(count[name] for count in counted)) for name in counted[0]}
    of.zero_grad(set_to_none=True)
    loss = 0.0
    for part in parts:
        part_loss = of(part, of.model.window(8), counts).sum()
        part_loss.backward()
        loss += part_loss.item()
    return loss, {name: x.grad for name, x in of.named_parameters() if x.grad is not None}


@pytest.mark.parametrize("branch", ["audio", "video", "fusion"])
def test_the_shares_of_a_batch_add_up_to_it(
    branch: Branch, examples: list[Example], collate: Collator, tokenizer: Tokenizer
) -> None:
    trained = objective(branch, tokenizer, alignment_weight=0.5)
    whole, expected = gradients(trained, [collate(examples)])
    shared, found = gradients(trained, [collate(examples[:1]), None, collate(examples[1:])])
    assert shared == pytest.approx(whole, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-7), name


def test_what_captions_are_read_from_weighs_most(
    examples: list[Example], collate: Collator, tokenizer: Tokenizer
) -> None:
    """All heads say the same of the same features here: what differs are their weights."""
    trained, batch = objective("fusion", tokenizer), collate([examples[0]])
    for head in ("audio", "video", "fused"):
        torch.nn.init.zeros_(getattr(trained.model, f"{head}_head").weight)
        torch.nn.init.zeros_(getattr(trained.model, f"{head}_head").bias)
    losses = trained(batch, trained.model.window(8), count_terms("fusion", batch)).tolist()
    terms = dict(zip(trained.terms, losses, strict=True))
    assert terms["audio_ctc"] == pytest.approx(BRANCH_LOSS_WEIGHT * terms["fused_ctc"])
    assert terms["video_ctc"] == pytest.approx(BRANCH_LOSS_WEIGHT * terms["fused_ctc"])
    assert terms["fused_ctc"] > 1


def test_a_part_without_examples_takes_part_without_a_gradient(tokenizer: Tokenizer) -> None:
    trained = objective("video", tokenizer)
    loss, found = gradients(trained, [None])
    assert loss == 0
    assert len(found) == len(trained.trained_parameters())
    assert not any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("branch", ["audio", "video", "fusion"])
def test_every_weight_takes_part_in_every_share(
    branch: Branch, examples: list[Example], collate: Collator, tokenizer: Tokenizer
) -> None:
    """Or training in several processes would end at the first share without lips, or wait for ever."""
    trained = objective(branch, tokenizer)
    names = [name for name, x in trained.named_parameters() if any(x is y for y in trained.trained_parameters())]
    deaf = replace(examples[0], data=without(examples[0].data, "heard", slice(None)))
    for share in (None, collate([deaf]), collate([examples[1]])):
        _, found = gradients(trained, [share])
        assert list(found) == names


def test_lips_that_say_something_else_teach_the_lip_branch_nothing(
    examples: list[Example], collate: Collator, tokenizer: Tokenizer
) -> None:
    counts = count_terms("fusion", collate([replace(examples[0], lips_match=False)]))
    assert (counts["video_rows"], counts["video_frames"], counts["both_ticks"]) == (0, 0, 0)
    assert counts["audio_rows"] == counts["fused_rows"] == 1
    assert counts["heard_ticks"] == examples[0].data.num_ticks


@pytest.mark.parametrize("branch", ["audio", "video", "fusion"])
@pytest.mark.parametrize(("sense", "head"), [("heard", "audio"), ("visible", "video")])
def test_a_sense_that_misses_much_of_an_example_teaches_its_branch_nothing(
    branch: Branch, sense: str, head: str, examples: list[Example], collate: Collator
) -> None:
    """Whatever the reason: it vanished, it never was there, or the example was joined with one that has none."""
    whole = examples[0]
    num_ticks = whole.data.num_ticks
    a_few, many = slice(0, num_ticks // 12), slice(0, num_ticks // 3)
    missing = [replace(whole, data=without(whole.data, sense, ticks)) for ticks in (a_few, many, slice(None))]
    counts = [count_terms(branch, collate([example])) for example in missing]
    if branch in (head, "fusion"):
        assert [count[f"{head}_rows"] for count in counts] == [1, 0, 0]
        assert [count[f"{head}_frames"] > 0 for count in counts] == [True, False, False]
    other = "video" if head == "audio" else "audio"
    if branch in (other, "fusion"):
        assert [count[f"{other}_rows"] for count in counts] == [1, 1, 1]
    assert [count.get("fused_rows", 1) for count in counts] == [1, 1, 1]


def test_alignment_pulls_both_branches_to_the_fused_one_where_both_senses_are(tokenizer: Tokenizer) -> None:
    scores = {name: torch.randn(2, 5, 7, requires_grad=True) for name in ("audio", "video", "fused")}
    both = torch.tensor([[True, True, False, False, True], [False] * 5])
    apart = branch_divergence({name: x.log_softmax(-1) for name, x in scores.items()}, both)
    assert apart > 0
    apart.backward()  # type: ignore[no-untyped-call]
    for name in ("audio", "video"):
        gradient = scores[name].grad
        assert gradient is not None
        assert torch.equal(gradient.abs().sum(-1) > 0, both)
    assert scores["fused"].grad is None
    same = {name: scores["fused"].log_softmax(-1) for name in scores}
    assert branch_divergence(same, both).item() == pytest.approx(0, abs=1e-5)


def test_alignment_reaches_the_branches_of_the_network(
    examples: list[Example], collate: Collator, tokenizer: Tokenizer
) -> None:
    batch = collate(examples[:1])
    _, plain = gradients(objective("fusion", tokenizer), [batch])
    _, aligned = gradients(objective("fusion", tokenizer, 1.0), [batch])
    differ = {name for name in plain if not torch.equal(plain[name], aligned[name])}
    assert {"model.audio_head.weight", "model.video_head.weight"} <= differ
    assert any(name.startswith("model.audio_encoder") for name in differ)
    assert any(name.startswith("model.video_front") for name in differ)
    assert not any(name.startswith(("model.fus", "frame_heads")) for name in differ)

    absent = collate(examples[1:2])  # no lips: nothing to agree with
    _, plain = gradients(objective("fusion", tokenizer), [absent])
    _, aligned = gradients(objective("fusion", tokenizer, 1.0), [absent])
    assert all(torch.equal(plain[name], aligned[name]) for name in plain)
