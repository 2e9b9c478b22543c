"""Recipes as they are read: what could not be trained, or not be kept, is refused with its place in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from toy_recipe import SIZES, recipe_of

from avsr.config import load_config
from avsr.errors import ConfigError
from avsr.train.recipe import RECIPES, RecipeConfig


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load_config(path, RecipeConfig)
    assert recipe.sizes(99).vocab_size == 99
    assert [recipe.stage(branch) for branch in ("audio", "video", "fusion")] == [
        recipe.audio,
        recipe.video,
        recipe.fusion,
    ]
    assert recipe.name != "default"  # what a user trains is not the model that comes with avsr
    assert not recipe.card  # it would tell of other clips than the user's


def test_a_left_context_beyond_the_model_s_is_refused() -> None:
    assert recipe_of(fusion={"epochs": 1, "left_context_low_ticks": SIZES.left_context_ticks})
    with pytest.raises(ValidationError, match=r"video\.left_context_low_ticks is 13; model\.left_context_ticks is 12"):
        recipe_of(video={"epochs": 1, "left_context_low_ticks": SIZES.left_context_ticks + 1})


def test_a_network_that_no_bundle_may_hold_is_refused() -> None:
    large = {"dim": 512, "num_heads": 8, "num_audio_layers": 8}
    with pytest.raises(ValidationError, match=r"\d+ MB of weights, and a bundle holds at most 67"):
        recipe_of(model=large)
    assert recipe_of(model=large | {"ff_mult": 1, "num_audio_layers": 1})


def test_a_wrong_field_of_a_section_that_may_be_missing_is_explained(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((RECIPES / "adapt.yaml").read_text().replace("lm: {order: 2}", "lm: {ordr: 2}"))
    with pytest.raises(ConfigError, match=r"lm\.ordr: unknown field; known here: .*order"):
        load_config(recipe, RecipeConfig)


@pytest.mark.parametrize("wrong", ["dimm: 192", "vocab_size: 9"])
def test_a_wrong_size_is_named_where_it_stands(wrong: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((RECIPES / "adapt.yaml").read_text().replace("  dim: 192", f"  dim: 192\n  {wrong}"))
    with pytest.raises(ConfigError, match=rf"model\.{wrong.split(':')[0]}: unknown field; known here: dim, num_heads"):
        load_config(recipe, RecipeConfig)


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((RECIPES / "default.yaml").read_text() + "\nlerning_rate: 1.0\n")
    with pytest.raises(ConfigError, match="lerning_rate"):
        load_config(recipe, RecipeConfig)
