"""What our own sides need around them: a devnet, a registered model, and a node's settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file

from inference.config import NodeConfig, load
from inference.engine.dtypes import DTYPES
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import add_model, prepare_devnet
from registry.register import register_model
from registry.workspace import Workspace

NAME: Final = "bench"
# Nothing for the prompt: so every call of the load has the same quote, and needs no 402 first.
_PRICE: Final = {"per_call": 100, "input_per_million": 0, "output_per_million": 2_000_000}
_YEAR_S: Final = 365 * 24 * 3600
# The patrol of resident weights is no part of the payment path: as seldom as a node may.
_PATROL_S: Final = 3600
_TORCH_NAMES: Final = {"F32": "float32", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Market:
    """The settings file of a node that sells one model, and that model's folder."""

    settings: Path
    folder: Path
    dtype: str

    @property
    def config(self) -> NodeConfig:
        """Return the settings."""
        return load(self.settings)

    @property
    def torch_dtype(self) -> str:
        """Return the dtype as the peers' commands name it."""
        return _TORCH_NAMES[self.dtype]


@contextmanager
def opened(model: Path, made: Path, *, dtype: str, threads: int) -> Iterator[Market]:
    """Register `model`, converted to `dtype`, on a devnet of its own; everything made is in `made`.

    `threads` is how many processors the model may use, 0 for all.
    """
    with Devnet.start() as net:
        path, _ = prepare_devnet(Chain(net.rpc_url), made, net.rpc_url)
        settings = f"threads = {threads}\nresident_check_s = {_PATROL_S}  #"
        path.write_text(path.read_text().replace("threads = 1", settings))
        folder = _converted(model, made / NAME, dtype)
        add_model(path, NAME, register(path, folder, NAME, task="chat"), _PRICE)
        yield Market(path, folder, dtype)


def _converted(model: Path, copy: Path, dtype: str) -> Path:
    """Return a copy of a model folder with every weight in `dtype`, and a config that says so."""
    shutil.copytree(model, copy)
    for path in copy.glob("*.safetensors"):
        tensors = {name: tensor.to(DTYPES[dtype]) for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    config |= {"dtype": _TORCH_NAMES[dtype]}
    (copy / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return copy


def register(settings: Path, folder: Path, name: str, *, task: str) -> bytes:
    """Register a model and have it attested, by the keys of a settings file; return its ModelId."""
    workspace = Workspace.open(registry_config(settings, read_file(settings)))
    done = register_model(
        folder,
        name=name,
        task=task,
        parents=(),
        blocks=workspace.blocks,
        registry=workspace.records,
        signer=workspace.signer("publisher"),
    )
    expires_at = workspace.chain.head().timestamp + _YEAR_S
    workspace.attestations.attest(
        workspace.signer("attester"), done.id, "integrity", 10_000, expires_at
    )
    return done.id
