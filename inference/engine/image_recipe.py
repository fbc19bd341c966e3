"""How a model's images are prepared: preprocessor_config.json, read as data, and its few steps.

The steps are those of transformers' ViTImageProcessor in its Pillow form: resize to a fixed size,
scale, subtract a mean, divide by a deviation. Any other step is refused, not skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.engine.config_rules import PREPROCESSOR_FIELDS, check_fields
from inference.errors import LoadRefusedError

PATH: Final = "preprocessor_config.json"
# (3, height, width), float32.
Pixels: TypeAlias = NDArray[np.float32]
# What ViTImageProcessor does where a file says nothing.
_RESAMPLE: Final = Image.Resampling.BILINEAR
_SCALE: Final = 1 / 255
_HALF: Final = [0.5, 0.5, 0.5]


@dataclass(frozen=True)
class ImageRecipe:
    """Sizes in pixels; `mean` and `deviation` by channel, or None where nothing is normalised."""

    height: int
    width: int
    resample: Image.Resampling
    scale: float | None
    mean: tuple[float, ...] | None
    deviation: tuple[float, ...] | None

    @classmethod
    def read(cls, raw: Mapping[str, Any], *, size: int) -> ImageRecipe:
        """Read a parsed file for a model that sees `size` by `size` pixels.

        Raises `LoadRefusedError` for a field that is unknown, out of bounds, or asks for another
        size than the model's.
        """
        kept = check_fields(raw, PREPROCESSOR_FIELDS, path=PATH)
        wanted = kept.get("size", {"height": size, "width": size})
        if wanted not in (size, {"height": size, "width": size}):
            raise LoadRefusedError(PATH, f"size is {wanted!r:.60}, the model sees {size} by {size}")
        normalises = kept.get("do_normalize", True)
        mean = tuple(float(value) for value in kept.get("image_mean", _HALF))
        deviation = tuple(float(value) for value in kept.get("image_std", _HALF))
        return cls(
            height=size,
            width=size,
            resample=Image.Resampling(kept.get("resample", _RESAMPLE)),
            scale=kept.get("rescale_factor", _SCALE) if kept.get("do_rescale", True) else None,
            mean=mean if normalises else None,
            deviation=deviation if normalises else None,
        )

    def prepare(self, image: Image.Image) -> Pixels:
        """Return an RGB image as the model sees it."""
        resized = image.resize((self.width, self.height), self.resample)
        values = np.asarray(resized).transpose(2, 0, 1)
        # In double precision first, and rounded once: as the reference does it.
        scaled = values.astype(np.float64) * (1.0 if self.scale is None else self.scale)
        pixels = scaled.astype(np.float32)
        if self.mean is not None and self.deviation is not None:
            mean, deviation = (
                np.array(part, np.float32)[:, None, None] for part in (self.mean, self.deviation)
            )
            pixels = (pixels - mean) / deviation
        return np.ascontiguousarray(pixels)
