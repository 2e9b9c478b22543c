"""Every setting of a model on disk: frozen sections, strictly checked, read from YAML or JSON.

    BundleConfig ── model     ModelConfig     sizes of the network
                 ├─ features  FeatureConfig   the log-mel statistics it was trained with
                 └─ decode    DecodeConfig    the search and the cutting into captions

A number is never read from a string, ``true`` is never 1, and a field that nobody knows, or that is given twice, is an
error.
"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from avsr.errors import ConfigError
from avsr.types import NUM_MELS, TICK_MS

FORMAT_VERSION = 1
"""The only bundle format there is."""

C = TypeVar("C", bound="Section")

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NumLayers = Annotated[int, Field(gt=0, le=64)]
ContextTicks = Annotated[int, Field(gt=0, le=4096)]
UpTo1024 = Annotated[int, Field(gt=0, le=1024)]
ChunkSizes = Annotated[tuple[UpTo1024, ...], Field(min_length=1, max_length=16, strict=False)]
LipChannels = Annotated[tuple[UpTo1024, ...], Field(min_length=1, max_length=8, strict=False)]
MelMeans = Annotated[tuple[float, ...], Field(min_length=NUM_MELS, max_length=NUM_MELS, strict=False)]
MelStds = Annotated[tuple[PositiveFloat, ...], Field(min_length=NUM_MELS, max_length=NUM_MELS, strict=False)]
FusionKind = Literal["gated", "ungated", "fixed", "concat"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def load_config(path: str | Path, cls: type[C]) -> C:
    """Read ``cls`` from a YAML (or ``.json``) file.

    Raises:
        ConfigError: the file cannot be read or parsed, or fields are wrong; every wrong field is named with its value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    return parse_config(text, cls, source=str(path), is_json=path.suffix.lower() == ".json")


def parse_config(text: str, cls: type[C], *, source: str, is_json: bool = False) -> C:
    """Read ``cls`` from YAML or JSON text; ``source`` names it in errors.

    Raises:
        ConfigError: as for :func:`load_config`.
    """
    language = "JSON" if is_json else "YAML"
    try:
        # A text nested deeper than the parser can follow ends in RecursionError, a bad \U escape or date in ValueError.
        values = json.loads(text, object_pairs_hook=_each_once) if is_json else yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid {language}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected fields and values ({', '.join(cls.model_fields)}), got {_show(values)}")
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(detail, cls)}" for detail in error.errors(include_url=False))
        raise ConfigError(f"{source}: {error.error_count()} wrong in {cls.__name__}:\n{problems}") from error


def dump_config(config: Section) -> str:
    """Return ``config`` as YAML that :func:`load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)


class Section(BaseModel):
    """A group of settings: frozen, strict, without infinite numbers, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SizesConfig(Section):
    """Sizes of the network, and how it fuses the senses. Contexts, chunks and kernels are in ticks (40 ms).

    ``fusion`` is ``gated`` (cross-attention, weighed by gates) or, to be compared with it, something plainer:
    ``ungated`` (cross-attention alone), ``fixed`` (a sum with fixed weights) or ``concat`` (concatenation and a linear
    map). The last two see one tick at a time, whatever ``fusion_context_ticks`` is.

    The limits lie far above any use: they keep a model from elsewhere from asking for more than a machine has.
    """

    dim: int = Field(192, gt=0, le=4096)
    num_heads: int = Field(4, gt=0, le=64)
    ff_mult: int = Field(4, gt=0, le=16)
    conv_kernel: int = Field(15, gt=0, le=255)
    num_audio_layers: NumLayers = 4
    num_video_layers: NumLayers = 4
    num_fusion_layers: NumLayers = 2
    fusion: FusionKind = "gated"
    left_context_ticks: ContextTicks = 64
    fusion_context_ticks: ContextTicks = 16
    chunk_sizes: ChunkSizes = (4, 8, 16)
    lip_channels: LipChannels = (24, 32, 64, 128)
    dropout: float = Field(0.1, ge=0, lt=1)

    @field_validator("chunk_sizes")
    @classmethod
    def _sorted_once(cls, chunk_sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(chunk_sizes) != sorted(set(chunk_sizes)):
            raise ValueError("allowed: ticks in rising order, each once, such as [4, 8, 16]")
        return chunk_sizes

    @model_validator(mode="after")
    def _whole_even_heads(self) -> SizesConfig:
        if self.dim % (2 * self.num_heads):
            raise ValueError(f"dim {self.dim} must be a multiple of twice num_heads ({2 * self.num_heads})")
        return self

    @model_validator(mode="after")
    def _streams_carry_what_fusion_sees(self) -> SizesConfig:
        if self.fusion_context_ticks > self.left_context_ticks:
            raise ValueError(
                f"fusion_context_ticks is {self.fusion_context_ticks}; at most left_context_ticks "
                f"({self.left_context_ticks}) are remembered"
            )
        return self


class ModelConfig(SizesConfig):
    """All sizes of the network: those of its layers, and how many tokens it tells apart."""

    vocab_size: int = Field(gt=0, le=65_536)


class FeatureConfig(Section):
    """The fixed statistics that normalise log-mel: per-band mean and deviation, and the floor under mel energies."""

    mel_mean: MelMeans
    mel_std: MelStds
    floor: PositiveFloat = 1e-6


class DecodeConfig(Section):
    """The beam search and the cutting of speech into captions.

    ``beam_size`` prefixes are kept and the ``top_k`` likeliest tokens tried at each tick. A segment ends after
    ``endpoint_silence_s`` without speech or at ``max_segment_s``. A word is settled at the latest ``stable_ticks``
    after the word that follows it began. A language model adds to each word ``lm_weight`` times its log probability,
    and ``word_bonus``; without one they do nothing.
    """

    beam_size: PositiveInt = 8
    top_k: PositiveInt = 16
    endpoint_silence_s: PositiveFloat = 0.8
    max_segment_s: PositiveFloat = 20.0
    stable_ticks: PositiveInt = 12
    lm_weight: float = Field(0.5, ge=0)
    word_bonus: float = 0.0


class BundleConfig(Section):
    """A model on disk, as ``config.yaml`` says it."""

    format_version: int = FORMAT_VERSION
    name: Name
    version: Name
    default_chunk_ms: PositiveInt = 320
    model: ModelConfig
    features: FeatureConfig
    decode: DecodeConfig = DecodeConfig()

    @model_validator(mode="after")
    def _chunk_was_trained(self) -> BundleConfig:
        allowed = [size * TICK_MS for size in self.model.chunk_sizes]
        if self.default_chunk_ms not in allowed:
            raise ValueError(f"default_chunk_ms {self.default_chunk_ms} was not trained; allowed: {allowed}")
        return self


class _Loader(yaml.SafeLoader):
    """Refuses a field that is given twice, as YAML does; PyYAML keeps the last one and says nothing."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, names = super().compose_mapping_node(anchor), set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
                names.add(key.value)
        return node


def _each_once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in fields:
        if name in values:
            raise ValueError(f"{name} is given twice")
        values[name] = value
    return values


def _explain(detail: ErrorDetails, cls: type[Section]) -> str:
    """Say in one line which field is wrong, what it holds and what it may hold."""
    where = ".".join(str(part) for part in detail["loc"]) or cls.__name__
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown field; known here: {', '.join(_section_at(detail['loc'][:-1], cls).model_fields)}"
    if detail["type"] == "missing":
        return f"{where}: missing, and it has no default"
    if detail["type"] == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        return (
            f"{where}: {message}"
            if isinstance(detail["input"], dict)
            else f"{where}: {_show(detail['input'])}; {message}"
        )
    hint = ""
    if detail["type"] == "float_type" and _is_number_text(detail["input"]):
        hint = " (YAML reads a float only with a dot and no quotes, such as 1.0e-6)"
    return f"{where}: {_show(detail['input'])}; {detail['msg'][0].lower()}{detail['msg'][1:]}{hint}"


def _section_at(path: tuple[int | str, ...], cls: type[Section]) -> type[Section]:
    for part in path:
        annotation = cls.model_fields[str(part)].annotation
        for kind in (annotation, *get_args(annotation)):  # ``LmConfig | None`` is one, too
            if isinstance(kind, type) and issubclass(kind, Section):
                cls = kind
    return cls


def _is_number_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _show(value: Any) -> str:
    # Cut short: a YAML file of nested aliases would otherwise print for ever.
    shortener = reprlib.Repr()
    shortener.maxlevel = 2
    return shortener.repr(value)
