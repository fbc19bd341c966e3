"""A devnet, a tiny registered model, and the settings of a node that sells it at a fixed price."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine_bench.market import register
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification

from inference.config import NodeConfig, load
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.devnet_file import add_model, prepare_devnet

NAME: Final = "bench"
PATH: Final = "/v1/classify"
BODY: Final = json.dumps({"model": NAME, "input": "Was it worth the price?"}).encode()
# Nothing for tokens: each call costs its quote, so that a client can sign the next ones ahead.
PER_CALL: Final = 100
_PRICE: Final = {"per_call": PER_CALL, "input_per_million": 0, "output_per_million": 0}
_YEAR_S: Final = 365 * 24 * 3600
# The patrol of resident weights is no part of the payment path: as seldom as a node may.
_PATROL_S: Final = 3600


@dataclass(frozen=True)
class Market:
    """The settings file of the node, and the devnet's address."""

    settings: Path
    rpc_url: str

    @property
    def config(self) -> NodeConfig:
        """Return the settings."""
        return load(self.settings)


@contextmanager
def opened(made: Path) -> Iterator[Market]:
    """Register a model on a devnet of its own; everything made is in the folder `made`."""
    with Devnet.start() as net:
        path, _ = prepare_devnet(Chain(net.rpc_url), made, net.rpc_url)
        settings = f"threads = 1\nresident_check_s = {_PATROL_S}  #"
        path.write_text(path.read_text().replace("threads = 1", settings))
        model = register(path, _classifier(made / NAME), NAME, task="classify")
        add_model(path, NAME, model, _PRICE)
        yield Market(path, net.rpc_url)


def _classifier(folder: Path) -> Path:
    """Write a text classifier that says nothing: its answers are never computed here."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    config = BertConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        id2label={0: "no", 1: "yes"},
        label2id={"no": 0, "yes": 1},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder
