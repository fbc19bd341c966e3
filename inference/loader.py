"""Story b, step 7: a verified model becomes tensors in memory, and nothing else gets there.

 1. Every file is of a kind that is data.
 2. config.json names an allowed architecture, and asks for nothing that is not known.
 3. The weight files hold exactly the manifest's tensors.
 4. The architecture, built without memory, wants exactly these tensors.
 5. All of it fits into the device's memory.
 6. Each weight byte is read once, to where it will compute: private memory, or the GPU's.
 7. The tensors are hashed as they lie there and compared with the manifest; NaN, infinity and
    tensors of nothing but denormal numbers are refused. What the module computes with must be
    these very tensors, or a packed copy made of them here, which is hashed too.
 8. Tokenizer, template, end tokens and labels are read from verified bytes too; the golden
    vectors of the manifest come out as they did at registration. A model that sees has the
    recipe of its images instead.

An adapter is loaded with its base: configuration and text are the base's, the tensors of both are
placed and hashed, and what the adapter changes is computed beside the base's weights.

Nothing is read from a path, nothing is fetched, nothing in the folder is run. The loader takes a
`VerifiedModel` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from math import prod
from typing import Any, Final

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from inference.engine import architecture
from inference.engine.compute_plan import ComputePlan, plan
from inference.engine.device import check_memory, choose_device, describe
from inference.engine.dtypes import DTYPES, SERVING_DTYPES
from inference.engine.image_recipe import ImageRecipe
from inference.engine.lora import attach
from inference.engine.packing import pack
from inference.engine.placement import Placed, place
from inference.engine.side_files import (
    CONFIG,
    check_index,
    check_kinds,
    read_adapter,
    read_end_ids,
    read_json,
    read_labels,
    read_recipe,
    read_text,
)
from inference.engine.tensor_names import place_of
from inference.errors import LoadRefusedError
from inference.resident import ResidentTensors, check_placed, same_place
from registry.adapter import resident_name
from registry.hashing.parallel import processors
from registry.manifest_parts import Serving, TensorEntry
from registry.text.chat_template import PATH as TEMPLATE
from registry.text.chat_template import ChatTemplate
from registry.text.model_text import ModelText
from registry.text.tokenizer import PATH as TOKENIZER
from registry.text.tokenizer import Tokenizer
from registry.verify import VerifiedModel

_PROOF: Final = object()


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to compute. Only `load` makes one.

    `dtype` is the serving dtype as safetensors writes it, `device` says where in words,
    `threads` how many processors one operation may use; `plan` how tokens are computed, None for a
    model that makes none. A model that reads text has `text`, one that sees has a `recipe`.
    """

    name: str
    model_id: bytes
    task: str
    module: PreTrainedModel
    text: ModelText | None
    recipe: ImageRecipe | None
    end_ids: frozenset[int]
    labels: tuple[str, ...]
    vocabulary: int
    serving: Serving
    dtype: str
    torch_device: torch.device
    device: str
    threads: int
    resident: ResidentTensors
    plan: ComputePlan | None = None
    proof: InitVar[object] = None

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("a LoadedModel comes from load and from nowhere else")

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises `LoadRefusedError` for a model that reads no text."""
        if self.text is None:
            raise LoadRefusedError(TOKENIZER, "is missing: this model reads no text")
        return self.text.tokenizer

    @property
    def template(self) -> ChatTemplate | None:
        """The chat template of a model that has one."""
        return None if self.text is None else self.text.template


def load(
    verified: VerifiedModel,
    *,
    device: str = "auto",
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    single: bool = False,
) -> LoadedModel:
    """Load a verified model on `device`: `auto`, `cpu`, `cuda` or `cuda:N`.

    `threads` 0 means all processors of this process; `progress` is called with bytes placed.
    `single` computes bfloat16 weights in single precision on every processor, see `ComputePlan`.
    Raises `LoadRefusedError` that names the file or tensor and the rule, `ConfigError` for the
    device.
    """
    manifest, whole = verified.manifest, verified.base or verified
    where = choose_device(device)
    check_kinds(whole.files)  # 1
    config = _config(whole)  # 2
    _check_listing(verified)  # 3
    module = architecture.build_empty(whole.manifest.architecture, config)  # 4
    if verified.base is not None:
        _check_listing(verified.base)
        attach(module, manifest, read_adapter(verified.files).scale)
    tied = _check_tensors(module, verified.tensors)
    how = _check_size(module, verified, where, single)  # 5
    placed = _place(verified, where, progress)  # 6, 7
    _furnish(module, placed, tied, where)
    if how is not None and how.packed:
        pack(module, manifest.serving.max_context, paired=how.paired)
    resident = _check_resident(module, placed, verified)
    recipe = read_recipe(whole.files, whole.manifest.architecture, config)  # 8
    text = None
    if recipe is None:
        golden = whole.manifest.golden
        text = read_text(whole.files, rows=config.vocab_size, golden=golden)
        if text.template is None and manifest.task == "chat":
            raise LoadRefusedError(TEMPLATE, "is missing: this model cannot chat")
    return LoadedModel(
        name=manifest.name,
        model_id=verified.model_id,
        task=manifest.task,
        module=module,
        text=text,
        recipe=recipe,
        end_ids=read_end_ids(whole.files, config),
        labels=read_labels(config) if manifest.task == "classify" else (),
        vocabulary=getattr(config, "vocab_size", 0),
        serving=manifest.serving,
        dtype=manifest.serving.dtype,
        torch_device=where,
        device=describe(where),
        threads=threads or processors(),
        resident=resident,
        plan=how,
        proof=_PROOF,
    )


def _config(verified: VerifiedModel) -> PreTrainedConfig:
    manifest = verified.manifest
    raw = read_json(verified.files, CONFIG)
    config = architecture.read_config(raw, layers_at_most=len(manifest.tensors))
    if raw["architectures"] != [manifest.architecture]:
        raise LoadRefusedError(CONFIG, f"is not of a {manifest.architecture}, as the manifest says")
    task = architecture.architecture_of(raw).task
    if task != manifest.task:
        raise LoadRefusedError(CONFIG, f"is of a model to {task}, not to {manifest.task}")
    positions = architecture.positions(config)
    if manifest.serving.max_context > positions:
        raise LoadRefusedError(
            CONFIG,
            f"has {positions} positions, fewer than the "
            f"{manifest.serving.max_context} of serving.max_context",
        )
    return config


def _check_listing(verified: VerifiedModel) -> None:
    """Compare the weight files' layout with the tensors the manifest lists."""
    promised: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for entry in verified.manifest.tensors:
        promised.setdefault(entry.file, {})[entry.name] = (entry.dtype, entry.shape)
    for path, file in verified.weights.items():
        listed = promised.pop(path, {})
        found = {name: (info.dtype, info.shape) for name, info in file.tensors.items()}
        for name in sorted(found.keys() | listed.keys()):
            if found.get(name) != listed.get(name):
                raise LoadRefusedError(path, f"tensor {name} is not as the manifest lists it")
    if promised:
        raise LoadRefusedError(min(promised), "is not a weight file")
    # A manifest names no tensor twice, so names alone say which is meant from here on.
    check_index(verified.files, {entry.name: entry.file for entry in verified.manifest.tensors})


def _check_tensors(module: PreTrainedModel, entries: tuple[TensorEntry, ...]) -> dict[str, str]:
    """Compare names and shapes with what the architecture wants; return its tied names."""
    tied = architecture.tied_names(module)
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if name not in tied
    }
    found = {place_of(entry.name): entry.shape for entry in entries}
    if len(found) < len(entries):
        raise LoadRefusedError("model", "two of its tensors have one place")
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise LoadRefusedError(name, "the architecture needs this tensor, the model has none")
        if name not in wanted:
            raise LoadRefusedError(name, "the architecture has no such tensor")
        if wanted[name] != found[name]:
            raise LoadRefusedError(
                name, f"has the shape {list(found[name])}, not {list(wanted[name])}"
            )
    return tied


def _check_size(
    module: PreTrainedModel, verified: VerifiedModel, where: torch.device, single: bool
) -> ComputePlan | None:
    """Return how the model will compute, once it is known that all of that fits."""
    manifest = verified.manifest
    dtype = manifest.serving.dtype
    if dtype not in SERVING_DTYPES:
        raise LoadRefusedError(CONFIG, f"cannot be served in {dtype}")
    for entry in verified.tensors:
        # A cast would make other numbers than those that were registered.
        if entry.dtype != dtype:
            raise LoadRefusedError(entry.name, f"is {entry.dtype}, to be served in {dtype}")
    weights = sum(DTYPES[dtype].itemsize * prod(entry.shape) for entry in verified.tensors)
    how = None
    if manifest.task == "chat":
        how = plan(
            module.config,
            dtype=DTYPES[dtype],
            device=where,
            context=manifest.serving.max_context,
            adapted=verified.base is not None,
            single=single,
        )
    check_memory(where, weights=weights, more=how.nbytes if how else 0)
    return how


def _place(
    verified: VerifiedModel, where: torch.device, progress: Callable[[int], None] | None
) -> dict[str, Placed]:
    """Put every tensor where it computes, compare it with its manifest, give it its name there."""
    rule = verified.manifest.tensor_rule
    placed = place(verified.weights.values(), where, rule, progress)
    check_placed(placed, verified.manifest.tensors, rule)
    if verified.base is None:
        return placed
    own = {resident_name(name): found for name, found in placed.items()}
    # What an adapter replaces as a whole is its own.
    return {**_place(verified.base, where, progress), **own}


def _furnish(
    module: PreTrainedModel,
    placed: Mapping[str, Placed],
    tied: Mapping[str, str],
    where: torch.device,
) -> None:
    """Give the module its tensors and the buffers that follow from its configuration."""
    tensors = {place_of(name): found.tensor for name, found in placed.items()}
    module.load_state_dict(tensors, strict=False, assign=True)
    for name, original in tied.items():
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, module.get_parameter(original))
    architecture.restore_buffers(module, where)
    module.train(False).requires_grad_(False)


def _check_resident(
    module: PreTrainedModel, placed: Mapping[str, Placed], verified: VerifiedModel
) -> ResidentTensors:
    """Demand that the module computes with the tensors that were hashed, and with no others."""
    held: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in held.items():
        if tensor.is_meta:
            raise LoadRefusedError(name, "was left without a value")
    for name, found in placed.items():
        place = place_of(name)
        if place not in held or not same_place(held[place], found.tensor):
            raise LoadRefusedError(name, "is not what the module computes with")
    promised = {entry.name: entry.digest for entry in verified.tensors}
    places = {name: place_of(name) for name in promised if place_of(name) != name}
    return ResidentTensors(module, promised, verified.manifest.tensor_rule, places)
