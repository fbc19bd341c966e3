"""What a reader demands beyond truth: whom it trusts, and how much it will load.

Everything here is pure: facts in, an answer or a `PolicyError` out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

from registry.attestation import Attestation
from registry.errors import (
    ChainStaleError,
    ConfigError,
    FileRefusedError,
    PolicyError,
    RecordRevokedError,
)
from registry.hashing.dataset import HashedFile
from registry.manifest_rules import WEIGHTS_SUFFIX
from registry.record import Record, Status

GIB: Final = 1024**3
# All files of a model beside its weights together, in bytes. They are copied into memory whole, and
# a publisher can make a file of any size out of one block; tokenizers take up to 35 MB.
MAX_SIDE_BYTES: Final = 256 * 1024 * 1024
# Formats whose reading can run code, and archives that can hold them.
FORBIDDEN_SUFFIXES: Final = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".msgpack"}
    | {".dill", ".cloudpickle", ".skops", ".pdparams", ".pdopt", ".pdmodel", ".ptl", ".rds"}
    | {".h5", ".hdf5", ".keras", ".mar", ".nemo", ".pb", ".onnx", ".gguf", ".ggml", ".llamafile"}
    | {".tflite", ".mlmodel", ".engine", ".whl", ".egg", ".jar", ".class", ".wasm", ".js"}
    | {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
    | {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".bat", ".cmd", ".ps1", ".exe"}
)


@dataclass(frozen=True)
class Policy:
    """Whom to trust and how much to load.

    - `publishers`: addresses whose models are loaded; None trusts any publisher.
    - `attesters`: addresses whose attestations count.
    - `min_attestations`: how many different attesters must vouch for a model.
    - `tags`: which attestations count; empty counts all.
    - `min_score`: basis points; an attestation below says the model failed, and does not count.
    - `allow_revoked_parents`: whether a model may descend from something revoked.
    - `max_bytes`, `max_files`: limits of one model, so that a manifest cannot fill the memory.
    - `max_ancestors`: how many records a lineage may have.
    - `max_block_age_s`: how old the block may be that facts are read at; None on a devnet, whose
      blocks come only when somebody transacts.
    """

    publishers: frozenset[str] | None = None
    attesters: frozenset[str] = frozenset()
    min_attestations: int = 0
    tags: frozenset[str] = frozenset()
    min_score: int = 5_000
    allow_revoked_parents: bool = False
    max_bytes: int = 64 * GIB
    max_files: int = 4_096
    max_ancestors: int = 256
    max_block_age_s: int | None = None

    def __post_init__(self) -> None:
        if self.publishers is not None:
            object.__setattr__(self, "publishers", _addresses(self.publishers, "publishers"))
        object.__setattr__(self, "attesters", _addresses(self.attesters, "attesters"))


def check_freshness(policy: Policy, block_time: int, now: int) -> None:
    """Refuse facts from a block that is too old: an endpoint that lags may hide a revocation.

    Raises `ChainStaleError`: it says nothing against a model, and passes when the block is fresh.
    """
    limit = policy.max_block_age_s
    if limit is not None and now - block_time > limit:
        raise ChainStaleError(
            f"the block is {now - block_time} s old, more than the {limit} s allowed",
            hint="the RPC endpoint lags behind; use another one",
        )


def check_publisher(policy: Policy, record: Record) -> None:
    """Refuse a record of a publisher that is not trusted."""
    if policy.publishers is not None and record.publisher not in policy.publishers:
        raise PolicyError(
            f"publisher {record.publisher} is not trusted here",
            hint="add the address to policy.publishers if you trust it",
        )


def counted(
    policy: Policy, attestations: Iterable[Attestation], now: int
) -> tuple[Attestation, ...]:
    """Return the attestations that count at `now` (Unix seconds), of known attesters only."""
    return tuple(
        attestation
        for attestation in attestations
        if attestation.attester in policy.attesters
        and (not policy.tags or attestation.tag in policy.tags)
        and attestation.score >= policy.min_score
        and attestation.stands(now)
    )


def check_attestations(policy: Policy, counting: Sequence[Attestation]) -> None:
    """Refuse when too few different attesters vouch; `counting` is what `counted` returned."""
    vouching = len({attestation.attester for attestation in counting})
    if vouching < policy.min_attestations:
        raise PolicyError(
            f"{vouching} known attesters vouch for the model, {policy.min_attestations} are needed",
            hint="have it attested (weightproof attest), or change the policy",
        )


def check_ancestor(policy: Policy, model: Record, ancestor: Record) -> None:
    """Refuse a model that descends from something revoked."""
    if ancestor.status is Status.REVOKED and not policy.allow_revoked_parents:
        raise RecordRevokedError(
            f"model 0x{model.id.hex()} is tainted by {ancestor.kind.word} 0x{ancestor.id.hex()}, "
            f"revoked at {ancestor.revoked_at}",
            hint="use a model that does not descend from it",
        )


def check_files(policy: Policy, files: Sequence[HashedFile]) -> None:
    """Refuse too many files or bytes, and files of kinds that can run code."""
    total = sum(file.size for file in files)
    if len(files) > policy.max_files or total > policy.max_bytes:
        raise PolicyError(
            f"the model has {len(files)} files and {total} bytes, the policy allows "
            f"{policy.max_files} and {policy.max_bytes}"
        )
    for file in files:
        check_file_kind(file.path)
    beside = [file for file in files if not file.path.endswith(WEIGHTS_SUFFIX)]
    if sum(file.size for file in beside) > MAX_SIDE_BYTES:
        largest = max(beside, key=lambda file: file.size)
        raise FileRefusedError(
            largest.path,
            f"has {largest.size} bytes: all files but the weights may have {MAX_SIDE_BYTES} "
            "together",
        )


def check_file_kind(path: str) -> None:
    """Refuse formats that can run code when they are read, and weights in a folder below.

    Raises `FileRefusedError`.
    """
    # A name that begins with its only dot, such as .pkl, has that kind too.
    _, dot, ending = path.rpartition("/")[2].lower().rpartition(".")
    suffix = dot + ending if dot else ""
    if suffix in FORBIDDEN_SUFFIXES:
        raise FileRefusedError(
            path,
            f"files of kind {suffix} are refused: reading them can run code",
            hint="convert weights to safetensors and leave other files out",
        )
    if suffix == WEIGHTS_SUFFIX and "/" in path:
        # Other loaders would not find them there, and load what else they find.
        raise FileRefusedError(path, "weight files lie at the top of a model's folder")


def _addresses(texts: Iterable[str], what: str) -> frozenset[str]:
    # Records carry checksum addresses; one written in lower case must not silently match nothing.
    for text in texts:
        is_plain = is_hex_address(text) and text == text.lower()
        if not (is_plain or is_checksum_address(text)):
            raise ConfigError(
                f"policy.{what}: {text!r:.60} is not an address",
                hint="an address is 0x and 40 hexadecimal digits; capitals are its checksum",
            )
    return frozenset(to_checksum_address(text) for text in texts)
