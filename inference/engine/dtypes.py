"""Names of dtypes: as safetensors writes them and as torch knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
NAMES: Final[Mapping[torch.dtype, str]] = {dtype: name for name, dtype in DTYPES.items()}
# What a forward pass can compute in without a cast.
SERVING_DTYPES: Final = ("F32", "BF16", "F16", "F64")
