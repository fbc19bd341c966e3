"""LoRA adapters: models that are a change of another model, their base, and nothing without it.

An adapter is a record of kind model like any other. Its folder holds `adapter_config.json` and
`adapter_model.safetensors` as peft writes them; tokenizer, template and labels are its base's. The
base is its one parent of kind model, so the chain itself says which model an adapter is for: what
the folder says about that is not read. Everything here follows from the two manifests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from registry.adapter_config import PATH as CONFIG
from registry.adapter_config import LoraConfig
from registry.errors import FileRefusedError, ManifestError
from registry.hashing.dataset import HashedFile
from registry.manifest_model import ModelManifest
from registry.manifest_parts import Parent, TensorEntry
from registry.manifest_rules import require
from registry.record import Kind

ADAPTER: Final = "LoraAdapter"
WEIGHTS: Final = "adapter_model.safetensors"
# What peft puts before the base's own names, and after them.
_PREFIX: Final = "base_model.model."
_DOWN: Final = ".lora_A.weight"
_UP: Final = ".lora_B.weight"
# Files that nothing reads and no loader runs.
_INERT: Final = re.compile(
    r"(README|LICENSE|NOTICE|USE_POLICY)[A-Za-z0-9._-]*|[^/]+\.md|\.gitattributes"
)


@dataclass(frozen=True)
class _Host:
    """What adapters may change in an architecture.

    `targets` are the last names of its linear modules, `head` a module that may be replaced as a
    whole; `transposed` says that its linear weights lie as (in, out).
    """

    targets: frozenset[str]
    head: str = ""
    transposed: bool = False


_DECODER: Final = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)
_ENCODER: Final = frozenset({"query", "key", "value", "dense"})
# Embeddings, norms and the vocabulary's head are not on the list: their weights may be shared.
_HOSTS: Final[Mapping[str, _Host]] = {
    "LlamaForCausalLM": _Host(_DECODER),
    "Qwen2ForCausalLM": _Host(_DECODER),
    "GPT2LMHeadModel": _Host(frozenset({"c_attn", "c_proj", "c_fc"}), transposed=True),
    "BertForSequenceClassification": _Host(_ENCODER, head="classifier"),
    "BertModel": _Host(_ENCODER),
}
# peft writes both names for every classifier; a classifier has a module of one of them.
_HEAD_NAMES: Final = frozenset({"classifier", "score"})


def is_adapter(manifest: ModelManifest) -> bool:
    """Return whether a manifest is of an adapter."""
    return manifest.architecture == ADAPTER


def has_adapter(files: Sequence[HashedFile]) -> bool:
    """Return whether a folder is one of an adapter, as peft saves it."""
    return any(file.path == CONFIG for file in files)


def base_id(parents: Sequence[Parent]) -> bytes:
    """Return the id of an adapter's base. Raises `ManifestError` unless they name exactly one."""
    named = [parent.id for parent in parents if parent.kind is Kind.MODEL]
    if len(named) != 1:
        raise ManifestError(
            f"an adapter has one base, this one names {len(named)} models as parents",
            hint="register it with its base as parent: --parent model:0x…",
        )
    return named[0]


def check_listing(files: Sequence[HashedFile]) -> None:
    """Raise `FileRefusedError` unless these are an adapter's files and no others."""
    paths = {file.path for file in files}
    for path in (CONFIG, WEIGHTS):
        if path not in paths:
            raise FileRefusedError(path, "is missing: an adapter has it")
    for path in sorted(paths - {CONFIG, WEIGHTS}):
        if not _INERT.fullmatch(path):
            raise FileRefusedError(
                path,
                "is not a file of an adapter: text and configuration are its base's",
                hint="Register the adapter without it.",
            )


def check_host(base: ModelManifest) -> None:
    """Raise `ManifestError` for a base that is an adapter itself, or that takes none."""
    require(not is_adapter(base), "is an adapter itself: an adapter's base is a whole model")
    require(base.architecture in _HOSTS, f"is a {base.architecture:.80}, which takes no adapters")


def check_fit(config: LoraConfig, manifest: ModelManifest, base: ModelManifest) -> None:
    """Demand that an adapter is one for this base: its task, its limits, and each of its tensors.

    Raises `ManifestError`, or `FileRefusedError` that names file and rule.
    """
    check_host(base)
    host = _HOSTS[base.architecture]
    _check_serving(manifest, base)
    if manifest.task not in config.tasks:
        raise FileRefusedError(CONFIG, f"task_type is not of a model to {manifest.task}")
    if config.transposed is not host.transposed:
        raise FileRefusedError(
            CONFIG, f"fan_in_fan_out is {config.transposed}, wrong for a {base.architecture}"
        )
    wanted = dict(_wanted(config, base, host))
    dtype = manifest.serving.dtype
    found = {entry.name: entry for entry in manifest.tensors}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise FileRefusedError(WEIGHTS, f"has no tensor {name}, which {CONFIG} calls for")
        if name not in wanted:
            raise FileRefusedError(WEIGHTS, f"has the tensor {name}, which nothing calls for")
        if found[name].shape != wanted[name]:
            shape = list(found[name].shape)
            raise FileRefusedError(
                WEIGHTS, f"tensor {name} has the shape {shape}, not {list(wanted[name])}"
            )
        if found[name].dtype != dtype:
            raise FileRefusedError(
                WEIGHTS,
                f"tensor {name} is {found[name].dtype}, to be served in {dtype}",
                hint="Save the adapter in the dtype that its base is served in.",
            )


def resident_entries(
    manifest: ModelManifest, base: ModelManifest | None
) -> tuple[TensorEntry, ...]:
    """Return what lies in memory when a model is loaded, by the names tensors have there.

    For an adapter these are its base's tensors under their own names, and its own without what
    peft puts before them; a module that it replaces is its own. Sorted by file and name.
    """
    if base is None:
        return manifest.tensors
    entries = {entry.name: entry for entry in base.tensors}
    for entry in manifest.tensors:
        name = resident_name(entry.name)
        entries[name] = replace(entry, name=name)
    return tuple(sorted(entries.values(), key=lambda entry: (entry.file, entry.name)))


def resident_name(name: str) -> str:
    """Return the name in memory of an adapter's tensor."""
    return name.removeprefix(_PREFIX)


def changed_modules(manifest: ModelManifest) -> tuple[str, ...]:
    """Return the names of the modules that an adapter adds to, as its base names them."""
    names = (resident_name(entry.name) for entry in manifest.tensors)
    return tuple(name.removesuffix(_DOWN) for name in names if name.endswith(_DOWN))


def _check_serving(manifest: ModelManifest, base: ModelManifest) -> None:
    require(
        manifest.task == base.task,
        f"it is a model to {manifest.task}, its base is one to {base.task}",
    )
    own, other = manifest.serving, base.serving
    require(
        own.dtype == other.dtype,
        f"it is to be served in {own.dtype}, its base in {other.dtype}",
    )
    require(
        own.max_context <= other.max_context,
        f"serving.max_context is {own.max_context}, its base's is {other.max_context}",
    )
    require(
        manifest.tensor_rule == base.tensor_rule,
        f"it is a {manifest.format}, its base a {base.format}: their digests are made differently",
    )


def _wanted(
    config: LoraConfig, base: ModelManifest, host: _Host
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor that the adapter must have."""
    targets = set(config.targets)
    for target in config.targets:
        if target.rpartition(".")[2] not in host.targets:
            raise FileRefusedError(
                CONFIG,
                f"target_modules has {target!r:.60}, which no adapter of a {base.architecture} "
                f"may change: {', '.join(sorted(host.targets))}",
            )
    matched: set[str] = set()
    for entry in base.tensors:
        module, _, kind = entry.name.rpartition(".")
        met = targets & set(_endings(module)) if kind == "weight" else set()
        if not met:
            continue
        matched |= met
        if len(entry.shape) != 2:
            raise FileRefusedError(CONFIG, f"target_modules has {min(met)!r}: it is not linear")
        inputs, outputs = entry.shape if host.transposed else entry.shape[::-1]
        if config.rank > min(inputs, outputs):
            raise FileRefusedError(
                CONFIG, f"r is {config.rank}, more than a side of {module}: {list(entry.shape)}"
            )
        yield f"{_PREFIX}{module}{_DOWN}", (config.rank, inputs)
        yield f"{_PREFIX}{module}{_UP}", (outputs, config.rank)
    if missing := targets - matched:
        raise FileRefusedError(
            CONFIG, f"target_modules has {min(missing)!r:.60}, which its base has not"
        )
    yield from _heads(config, base, host)


def _heads(
    config: LoraConfig, base: ModelManifest, host: _Host
) -> Iterator[tuple[str, tuple[int, ...]]]:
    if not config.heads:
        return
    if host.head not in config.heads or set(config.heads) - _HEAD_NAMES:
        raise FileRefusedError(
            CONFIG,
            f"modules_to_save is {list(config.heads)!r:.80}: of a {base.architecture} "
            f"an adapter replaces {host.head or 'nothing'}",
        )
    for entry in base.tensors:
        if entry.name.rpartition(".")[0] == host.head:
            yield _PREFIX + entry.name, entry.shape


def _endings(module: str) -> Iterator[str]:
    """Yield the module's dotted name and each of its endings, as peft matches them."""
    while module:
        yield module
        module = module.partition(".")[2]
