"""Settings: what is written is read back, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from avsr.config import BundleConfig, FeatureConfig, ModelConfig, dump_config, load_config, parse_config
from avsr.errors import ConfigError

FEATURES = FeatureConfig(mel_mean=(-3.25,) * 80, mel_std=(1.5,) * 80)
BUNDLE = BundleConfig(name="tiny", version="0.1", model=ModelConfig(vocab_size=30), features=FEATURES)


def test_a_config_survives_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(BUNDLE))
    (tmp_path / "config.json").write_text(BUNDLE.model_dump_json())
    assert load_config(tmp_path / "config.yaml", BundleConfig) == BUNDLE
    assert load_config(tmp_path / "config.json", BundleConfig) == BUNDLE


@settings(max_examples=10, deadline=None)
@given(
    st.builds(
        FeatureConfig,
        mel_mean=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 80),
        mel_std=st.tuples(*[st.floats(min_value=0, exclude_min=True, allow_infinity=False)] * 80),
        floor=st.floats(min_value=1e-30, max_value=1e30),
    )
)
def test_every_float_survives_yaml(config: FeatureConfig) -> None:
    assert parse_config(dump_config(config), FeatureConfig, source="memory") == config


def test_every_wrong_field_is_named_with_its_value() -> None:
    text = "vocab_size: -3\ndim: '192'\nnum_heads: true\nchunk_sizes: [8, 4]\ndropout: 1.5\nlayers: 3\n"
    with pytest.raises(ConfigError) as raised:
        parse_config(text, ModelConfig, source="x.yaml")
    message = str(raised.value)
    assert "x.yaml: 6 wrong" in message
    for part in ("vocab_size: -3", "dim: '192'", "num_heads: True", "chunk_sizes: [8, 4]", "dropout: 1.5"):
        assert part in message
    assert "layers: unknown field; known here: dim, num_heads" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vocab_size: 30\ndim: 30", "multiple of twice num_heads"),
        ("dim: 32", "vocab_size: missing"),
        ("vocab_size: 30\nchunk_sizes: []", "chunk_sizes"),
        ("vocab_size: 30\nchunk_sizes: [4, 100000]", "chunk_sizes.1: 100000; .* 1024"),
        ("vocab_size: 30\nlip_channels: [1, 1, 1, 1, 1, 1, 1, 1, 1]", "lip_channels.* 8 "),
        ("vocab_size: 30\ndim: 1000000", "dim: 1000000; .* 4096"),
        ("vocab_size: 30\nnum_video_layers: 1000", "num_video_layers: 1000; .* 64"),
        ("vocab_size: 1000000", "vocab_size: 1000000; .* 65536"),
        ("vocab_size: 30\nfusion: sum", "fusion: 'sum'; .*'gated', 'ungated', 'fixed' or 'concat'"),
        ("- 1\n- 2", "expected fields"),
        ("", "expected fields"),
        ("a: [", "not valid YAML"),
        ("vocab_size: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a: " + "[" * 1000, "not valid YAML"),
        ("vocab_size: 30\ndim: 64\nvocab_size: 40", "vocab_size is given twice\n.*line 3"),
    ],
)
def test_what_is_no_config_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(text, ModelConfig, source="x.yaml")


def test_a_field_is_given_once_in_json_too() -> None:
    with pytest.raises(ConfigError, match="not valid JSON: dim is given twice"):
        parse_config('{"vocab_size": 30, "dim": 64, "dim": 32}', ModelConfig, source="x.json", is_json=True)


def test_a_model_from_before_there_was_a_choice_fuses_with_gates() -> None:
    assert parse_config("vocab_size: 30", ModelConfig, source="x.yaml").fusion == "gated"


@pytest.mark.parametrize("number", ["1e-6", "-1e0"])
def test_a_float_without_a_dot_is_explained(number: str) -> None:
    text = dump_config(FEATURES).replace("1.0e-06", number)
    with pytest.raises(ConfigError, match="only with a dot"):
        parse_config(text, FeatureConfig, source="x.yaml")


def test_nested_aliases_cannot_fill_the_error_message() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    )
    with pytest.raises(ConfigError) as raised:
        parse_config(bomb + "vocab_size: *i\n", ModelConfig, source="bomb.yaml")
    assert len(str(raised.value)) < 10_000


def test_a_missing_or_binary_file_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("none.yaml", "binary.yaml", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path / name, ModelConfig)


def test_the_default_chunk_must_have_been_trained() -> None:
    with pytest.raises(ValidationError, match="allowed: \\[160, 320, 640\\]"):
        BundleConfig(name="a", version="1", default_chunk_ms=200, model=ModelConfig(vocab_size=3), features=FEATURES)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        BUNDLE.model.dim = 3  # type: ignore[misc]
