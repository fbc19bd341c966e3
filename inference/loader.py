"""Story b, step 7: a verified model becomes tensors in memory, and nothing else gets there.

 1. Every file is of a kind that is data.
 2. config.json names an allowed architecture, and asks for nothing that is not known.
 3. The weight files hold exactly the manifest's tensors.
 4. The architecture, built without memory, wants exactly these tensors.
 5. All of it fits into the device's memory.
 6. Tensors are placed: on the CPU they are the verified bytes themselves, without a copy.
 7. The tensors are hashed as they lie and compared with the manifest.
 8. Tokenizer, template, end tokens and labels are read from verified bytes too.

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
from inference.engine.chat_template import PATH as TEMPLATE
from inference.engine.chat_template import ChatTemplate
from inference.engine.device import check_memory, choose_device, describe
from inference.engine.dtypes import DTYPES, SERVING_DTYPES
from inference.engine.kv_cache import bytes_per_token
from inference.engine.side_files import (
    CONFIG,
    check_index,
    check_kinds,
    read_bytes,
    read_end_ids,
    read_json,
    read_labels,
    read_template,
)
from inference.engine.tokenizer import PATH as TOKENIZER
from inference.engine.tokenizer import Tokenizer
from inference.errors import LoadRefusedError
from inference.resident import ResidentTensors
from registry.errors import FileRefusedError
from registry.hashing.parallel import processors
from registry.hashing.weights import TensorInfo, read_header
from registry.manifest import ModelManifest
from registry.manifest_parts import Serving, TensorEntry
from registry.verify import VerifiedModel

_PROOF: Final = object()


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to compute. Only `load` makes one.

    `dtype` is the serving dtype as safetensors writes it, `device` says where in words,
    `threads` how many processors one operation may use.
    """

    name: str
    model_id: bytes
    task: str
    module: PreTrainedModel
    tokenizer: Tokenizer
    template: ChatTemplate | None
    end_ids: frozenset[int]
    labels: tuple[str, ...]
    vocabulary: int
    serving: Serving
    dtype: str
    torch_device: torch.device
    device: str
    threads: int
    resident: ResidentTensors
    proof: InitVar[object] = None

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("a LoadedModel comes from load and from nowhere else")


def load(
    verified: VerifiedModel,
    *,
    device: str = "auto",
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
) -> LoadedModel:
    """Load a verified model on `device`: `auto`, `cpu`, `cuda` or `cuda:N`.

    `threads` 0 means all processors of this process; `progress` is called with bytes placed.
    Raises `LoadRefusedError` that names the file or tensor and the rule, `ConfigError` for the
    device.
    """
    manifest = verified.manifest
    where = choose_device(device)
    check_kinds(verified.files)  # 1
    config = _config(verified)  # 2
    places = _locate(verified)  # 3
    module = architecture.build_empty(manifest.architecture, config)  # 4
    tied = _check_tensors(module, manifest.tensors)
    _check_size(module, manifest, where)  # 5
    _place(module, verified, places, where, progress)  # 6
    _tie(module, tied)
    architecture.restore_buffers(module, where)
    module.train(False).requires_grad_(False)
    resident = _check_resident(module, manifest.tensors)  # 7
    template = read_template(verified.files)  # 8
    if template is None and manifest.task == "chat":
        raise LoadRefusedError(TEMPLATE, "is missing: this model cannot chat")
    return LoadedModel(
        name=manifest.name,
        model_id=verified.model_id,
        task=manifest.task,
        module=module,
        tokenizer=Tokenizer(read_bytes(verified.files, TOKENIZER), rows=config.vocab_size),
        template=template,
        end_ids=read_end_ids(verified.files, config),
        labels=read_labels(config) if manifest.task == "classify" else (),
        vocabulary=config.vocab_size,
        serving=manifest.serving,
        dtype=manifest.serving.dtype,
        torch_device=where,
        device=describe(where),
        threads=threads or processors(),
        resident=resident,
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
    if manifest.serving.max_context > config.max_position_embeddings:
        raise LoadRefusedError(
            CONFIG,
            f"has {config.max_position_embeddings} positions, fewer than the "
            f"{manifest.serving.max_context} of serving.max_context",
        )
    return config


def _locate(verified: VerifiedModel) -> dict[str, dict[str, TensorInfo]]:
    """Return where each tensor's bytes are: file to name to place."""
    promised: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for entry in verified.manifest.tensors:
        promised.setdefault(entry.file, {})[entry.name] = (entry.dtype, entry.shape)
    places = {}
    for path, file in verified.files.items():
        if not path.endswith(".safetensors"):
            continue
        try:
            header = read_header(file.view(), path=path)
        except FileRefusedError as error:
            raise LoadRefusedError(error.path, error.rule) from error
        found = {name: (info.dtype, info.shape) for name, info in header.items()}
        if found != promised.get(path, {}):
            odd = min(
                name
                for name in found.keys() | promised.get(path, {}).keys()
                if found.get(name) != promised.get(path, {}).get(name)
            )
            raise LoadRefusedError(path, f"tensor {odd} is not as the manifest lists it")
        places[path] = header
    if places.keys() != promised.keys():
        raise LoadRefusedError(min(promised.keys() - places.keys()), "is not a weight file")
    # A manifest names no tensor twice, so names alone say which is meant from here on.
    check_index(verified.files, {entry.name: entry.file for entry in verified.manifest.tensors})
    return places


def _check_tensors(module: PreTrainedModel, entries: tuple[TensorEntry, ...]) -> dict[str, str]:
    """Compare names and shapes with what the architecture wants; return its tied names."""
    tied = architecture.tied_names(module)
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if name not in tied
    }
    found = {entry.name: entry.shape for entry in entries}
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


def _check_size(module: PreTrainedModel, manifest: ModelManifest, where: torch.device) -> None:
    dtype = manifest.serving.dtype
    if dtype not in SERVING_DTYPES:
        raise LoadRefusedError(CONFIG, f"cannot be served in {dtype}")
    for entry in manifest.tensors:
        # A cast would make other numbers than those that were registered.
        if entry.dtype != dtype:
            raise LoadRefusedError(entry.name, f"is {entry.dtype}, to be served in {dtype}")
    size = DTYPES[dtype].itemsize
    weights = sum(size * prod(entry.shape) for entry in manifest.tensors)
    chats = manifest.task == "chat"
    cache = bytes_per_token(module.config, size) * manifest.serving.max_context if chats else 0
    check_memory(where, weights=weights, cache=cache)


def _place(
    module: PreTrainedModel,
    verified: VerifiedModel,
    places: Mapping[str, Mapping[str, TensorInfo]],
    where: torch.device,
    progress: Callable[[int], None] | None,
) -> None:
    tensors = {}
    for path, header in places.items():
        view = verified.files[path].view()
        for name, info in header.items():
            tensors[name] = _tensor(view, info).to(where)
            if progress is not None:
                progress(info.end - info.start)
    module.load_state_dict(tensors, strict=False, assign=True)


def _tensor(view: memoryview, info: TensorInfo) -> torch.Tensor:
    dtype = DTYPES[info.dtype]
    if info.start % dtype.itemsize:
        # Bytes that do not lie as the processor wants them have to be moved once.
        flat = torch.frombuffer(
            view, dtype=torch.uint8, count=info.end - info.start, offset=info.start
        )
        return flat.clone().view(dtype).view(info.shape)
    flat = torch.frombuffer(view, dtype=dtype, count=prod(info.shape), offset=info.start)
    return flat.view(info.shape)


def _tie(module: PreTrainedModel, tied: Mapping[str, str]) -> None:
    for name, original in tied.items():
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, module.get_parameter(original))


def _check_resident(module: PreTrainedModel, entries: tuple[TensorEntry, ...]) -> ResidentTensors:
    held: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in held.items():
        if tensor.is_meta:
            raise LoadRefusedError(name, "was left without a value")
    resident = ResidentTensors(module, {entry.name: entry.digest for entry in entries})
    changed = resident.changed()
    if changed is not None:
        raise LoadRefusedError(changed, "does not hash in memory to what the manifest lists")
    return resident
