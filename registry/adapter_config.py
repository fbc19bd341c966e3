"""`adapter_config.json` as peft writes it, read strictly: plain LoRA and nothing else.

A field is known and used, known and harmless, known and must be off, or refused. What says which
model the adapter is for is not read here at all: the chain says it, and the chain only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import FileRefusedError
from registry.text.strict_json import parse_object

PATH: Final = "adapter_config.json"
# Adapters of higher rank than this were not seen; each tensor's own size bounds it further.
MAX_RANK: Final = 256
_MAX_ALPHA: Final = 65_536
# A model of 100 layers with every layer's modules named one by one has some 700 targets.
_MAX_TARGETS: Final = 4_096
_MAX_HEADS: Final = 8
# Dotted names. What peft would read as a pattern has other characters, or is no list.
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,15}")
# What a publisher trained it for, and the tasks of manifests that this can mean.
_TASKS: Final[Mapping[str | None, frozenset[str]]] = {
    "CAUSAL_LM": frozenset({"chat"}),
    "SEQ_CLS": frozenset({"classify"}),
    "FEATURE_EXTRACTION": frozenset({"classify", "embed"}),
    None: frozenset({"chat", "classify", "embed"}),
}
# How it was begun. Other ways (pissa, olora, corda, loftq …) change the base's weights too, and
# an adapter made so means nothing beside the base that is registered.
_BEGINNINGS: Final = (True, False, "gaussian", "orthogonal")
_USED: Final = frozenset(
    {"peft_type", "task_type", "r", "lora_alpha", "use_rslora", "target_modules"}
    | {"modules_to_save", "fan_in_fan_out", "init_lora_weights", "bias"}
)
# `base_model_name_or_path` and `revision` name a base in words that anybody can write; dropout is
# for training; the last two mean nothing while `megatron_config` and `use_qalora` are off.
_HARMLESS: Final = frozenset(
    {"base_model_name_or_path", "revision", "inference_mode", "lora_dropout", "peft_version"}
    | {"megatron_core", "qalora_group_size"}
)
# Other computations, other tensors or other layers than LoRA's, and classes to import by name.
_OFF: Final = frozenset(
    {"alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "corda_config"}
    | {"ensure_weight_tying", "eva_config", "exclude_modules", "kasa_config", "layer_replication"}
    | {"layers_pattern", "layers_to_transform", "loftq_config", "lora_bias", "lora_ga_config"}
    | {"megatron_config", "monteclora_config", "rank_pattern", "target_parameters", "use_bdlora"}
    | {"trainable_token_indices", "use_dora", "use_qalora", "velora_config"}
)


@dataclass(frozen=True)
class LoraConfig:
    """What an adapter computes: to each target's output it adds scale · B(A(input)).

    `targets` are names of modules, or how their dotted names end; `heads` modules that it
    replaces; `transposed` says that the targets' weights lie as (in, out). `tasks` are those of a
    manifest that it can be for.
    """

    rank: int
    alpha: float
    rank_stabilised: bool
    targets: tuple[str, ...]
    heads: tuple[str, ...]
    transposed: bool
    tasks: frozenset[str]

    @property
    def scale(self) -> float:
        """The factor of the paper (arXiv 2106.09685), or the one of rsLoRA (arXiv 2312.03732)."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


def read_config(data: bytes) -> LoraConfig:
    """Return what an `adapter_config.json` says. Raises `FileRefusedError` naming the field."""
    raw = parse_object(data, PATH)
    for name, value in raw.items():
        if name in _OFF:
            # Sizes of nothing: null, false, {} and [] all say that it is not used.
            _require(value is None or value is False or value in ({}, []), name, value)
        elif name not in _USED | _HARMLESS:
            raise FileRefusedError(PATH, f"has the unknown field {name!r:.60}")
    for name, allowed in (("peft_type", "LORA"), ("bias", "none")):
        _require(raw.get(name, "none") == allowed, name, raw.get(name))
    task, begun = raw.get("task_type"), raw.get("init_lora_weights", True)
    _require(task is None or (isinstance(task, str) and task in _TASKS), "task_type", task)
    _require(isinstance(begun, bool | str) and begun in _BEGINNINGS, "init_lora_weights", begun)
    return LoraConfig(
        rank=_rank(raw.get("r")),
        alpha=_alpha(raw.get("lora_alpha")),
        rank_stabilised=_flag(raw, "use_rslora"),
        targets=_targets(raw),
        heads=_heads(raw),
        transposed=_flag(raw, "fan_in_fan_out"),
        tasks=_TASKS[task],
    )


def _rank(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_RANK:
        raise FileRefusedError(PATH, f"r is {value!r:.60}, not 1 to {MAX_RANK}")
    return value


def _alpha(value: Any) -> float:
    # NaN compares false with everything; a number too large for a float was read as infinity.
    if type(value) not in (int, float) or not 0 < value <= _MAX_ALPHA:
        raise FileRefusedError(PATH, f"lora_alpha is {value!r:.60}, not up to {_MAX_ALPHA}")
    return float(value)


def _targets(raw: Mapping[str, Any]) -> tuple[str, ...]:
    value = raw.get("target_modules")
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_TARGETS:
        raise FileRefusedError(
            PATH,
            f"target_modules is {value!r:.60}, not a list of names",
            hint="List the modules by name; patterns are not read.",
        )
    return _names(value, "target_modules")


def _heads(raw: Mapping[str, Any]) -> tuple[str, ...]:
    value = raw.get("modules_to_save")
    if value is None:
        return ()
    _require(isinstance(value, list) and len(value) <= _MAX_HEADS, "modules_to_save", value)
    return _names(value, "modules_to_save")


def _names(value: list[Any], field: str) -> tuple[str, ...]:
    for name in value:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FileRefusedError(PATH, f"{field} has {name!r:.60}, which is no module's name")
    if len(set(value)) != len(value):
        raise FileRefusedError(PATH, f"{field} names a module twice")
    return tuple(sorted(value))


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name, False)
    _require(isinstance(value, bool), name, value)
    return bool(value)


def _require(holds: bool, field: str, value: object) -> None:
    if not holds:
        raise FileRefusedError(
            PATH, f"{field} is {value!r:.60}: only plain LoRA adapters are served"
        )
