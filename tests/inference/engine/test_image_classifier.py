"""Images: hostile files are refused by name, sound ones become the reference's own numbers."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import AutoModelForImageClassification, ViTImageProcessorPil

from inference.engine.classifier import Classifier
from inference.engine.image import MAX_FILE_BYTES, MAX_PIXELS, decode
from inference.engine.image_classifier import ImageClassifier
from inference.engine.image_header import Format, read_header
from inference.engine.image_recipe import ImageRecipe
from inference.errors import GenerationError, LoadRefusedError, RequestError, UnavailableError
from inference.loader import LoadedModel, load
from registry.hashing.resident_digest import resident_digest
from registry.manifest_parts import Serving
from tests.inference import image_files, tiny_models
from tests.inference.image_files import picture, png, saved
from tests.inference.shelf import Shelf

LABELS = ("cat", "dog", "fish")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.vit(tmp_path_factory.mktemp("models") / "pets", LABELS)


@pytest.fixture
def loaded(shelf: Shelf, folder: Path) -> LoadedModel:
    with shelf.verified(folder, task="classify") as verified:
        return load(verified, device="cpu", threads=1)


@pytest.fixture
def classifier(loaded: LoadedModel) -> Iterator[ImageClassifier]:
    running = ImageClassifier(loaded)
    yield running
    running.close()


def classify(classifier: ImageClassifier, file: bytes) -> dict[str, float]:
    async def work() -> dict[str, float]:
        (scores,) = await classifier.score([await classifier.read(file)])
        return scores

    return asyncio.run(work())


# Files that are refused

SOUND = saved(picture())
JPEG = saved(picture(), "JPEG")
WEBP = saved(picture(), "WEBP")
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "of no known format"),
    "a decompression bomb": (image_files.bomb, "has 30000 x 30000 pixels"),
    "a line of pixels": (lambda: png(2**24, 1, b""), "and 16384 in a row"),
    "a PNG that says more than it has": (lambda: png(4000, 4000, bytes(13)), "broken PNG"),
    "a PNG without pixels": (lambda: png(0, 7, b""), "says 0 x 7 pixels"),
    "a PNG cut short": (lambda: SOUND[: len(SOUND) // 2], "broken PNG"),
    "a PNG cut in its header": (lambda: SOUND[:20], "its header is missing"),
    "a PNG with a wrong sum": (
        lambda: SOUND[:29] + bytes([SOUND[29] ^ 1]) + SOUND[30:],
        "broken PNG",
    ),
    "a PNG with two headers": (
        lambda: png(4, 4, bytes(52), SOUND[8:33]),
        "PNG says two sizes|broken PNG",
    ),
    "a text bomb in a PNG": (image_files.text_bomb, "broken PNG"),
    "a JPEG cut short": (lambda: JPEG[: len(JPEG) // 2], "broken JPEG"),
    "a JPEG cut in its header": (lambda: JPEG[:60], "frame header is missing"),
    "a JPEG that says more than it has": (
        lambda: image_files.jpeg_with_size(JPEG, 4000, 4000),
        "says 4000 x 4000 pixels, which .* cannot hold",
    ),
    "a JPEG bomb": (
        lambda: image_files.jpeg_with_size(JPEG, 16_000, 16_000) + bytes(600_000),
        "has 16000 x 16000 pixels",
    ),
    "a JPEG of a rare kind": (lambda: JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1), "a rare kind"),
    "a JPEG of two frame headers": (
        lambda: image_files.jpeg_of_two_frames(JPEG),
        "two frame headers",
    ),
    "a WebP cut short": (lambda: WEBP[: len(WEBP) // 2], "broken WEBP"),
    "a WebP cut in its header": (lambda: WEBP[:20], "its header is missing"),
    "a WebP bomb": (
        lambda: image_files.webp_canvas(16_000, 16_000),
        "has 16000 x 16000 pixels",
    ),
    "a WebP whose canvas lies": (lambda: image_files.webp_canvas(3000, 3000), "broken WEBP"),
    "an animated WebP": (
        lambda: saved(picture(), "WEBP", save_all=True, append_images=[picture(60, 40).rotate(9)]),
        "is animated",
    ),
    "an animated PNG": (
        lambda: saved(picture(), save_all=True, append_images=[picture().rotate(9)]),
        "several pictures",
    ),
    "a JPEG of several pictures": (
        lambda: saved(picture(), "MPO", save_all=True, append_images=[picture().rotate(9)]),
        "several pictures",
    ),
    "a GIF": (lambda: saved(picture(), "GIF"), "is GIF"),
    "a BMP": (lambda: saved(picture(), "BMP"), "is BMP"),
    "a TIFF": (lambda: saved(picture(), "TIFF"), "is TIFF"),
    "a PDF": (lambda: saved(picture(), "PDF"), "is PDF"),
    "an SVG": (lambda: b"\n <svg xmlns='x'><image href='file:///'/></svg>", "is SVG"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "is PostScript"),
    "too large a file": (lambda: SOUND + bytes(MAX_FILE_BYTES), "bytes, more than"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_by_name(kind: str) -> None:
    make, reason = HOSTILE[kind]
    file = make()
    began = time.monotonic()
    with pytest.raises(RequestError, match=reason) as caught:
        decode(file)
    assert caught.value.param == "image"
    # What is decoded before it fails is within the bounds.
    assert time.monotonic() - began < 10


def test_a_file_of_another_format_than_its_sender_says_is_refused() -> None:
    with pytest.raises(RequestError, match="is called JPEG and is PNG"):
        decode(SOUND, Format.JPEG)
    assert decode(SOUND, Format.PNG).size == (60, 40)


@pytest.mark.parametrize("make", ["flip", "cut", "insert"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_damage_makes_more_than_a_refusal(kind: str, make: str) -> None:
    rng = np.random.default_rng([len(kind), ord(kind[0]), ord(make[0])])
    file = saved(picture(), kind)
    for _ in range(150):
        at = int(rng.integers(2, len(file)))
        noise = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
        damaged = {
            "flip": file[:at] + noise[:1] + file[at + 1 :],
            "cut": file[:at],
            "insert": file[:at] + noise + file[at:],
        }[make]
        try:
            image = decode(damaged)
        except RequestError as error:
            assert error.param == "image"
        else:
            assert image.mode == "RGB"
            assert image.width * image.height <= MAX_PIXELS


# Models that are refused


def refusal(shelf: Shelf, folder: Path, **options: Any) -> str:
    with (
        shelf.verified(folder, task="classify", **options) as verified,
        pytest.raises(LoadRefusedError) as caught,
    ):
        load(verified, device="cpu", threads=1)
    return caught.value.message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": {"height": 64, "width": 64}}, "the model sees 32 by 32"),
        ({"size": {"shortest_edge": 32}}, "size is .* not allowed"),
        ({"do_center_crop": True}, "unknown field 'do_center_crop'"),
        ({"do_resize": False}, "do_resize is False"),
        ({"image_std": [0.0, 1.0, 1.0]}, "image_std is .* not allowed"),
        ({"image_mean": [0.5, 0.5]}, "image_mean is .* not allowed"),
        ({"resample": 9}, "resample is 9"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type is"),
        ({"auto_map": {"AutoImageProcessor": "evil.Processor"}}, "auto_map"),
    ],
)
def test_a_recipe_that_asks_for_something_else_is_refused(
    shelf: Shelf, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = tiny_models.vit(tmp_path / "pets")
    tiny_models.edit_json(folder / "preprocessor_config.json", **changes)
    assert re.search(reason, refusal(shelf, folder))


def test_a_model_that_sees_needs_its_recipe_and_no_text(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.vit(tmp_path / "blind")
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json: is missing" in refusal(shelf, folder)
    folder = tiny_models.vit(tmp_path / "reader")
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert "is of no use to a ViTForImageClassification" in refusal(shelf, folder)


def test_a_recipe_beside_a_model_of_text_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "reviews")
    (folder / "preprocessor_config.json").write_text("{}")
    assert "is of no use to a BertForSequenceClassification" in refusal(shelf, folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_channels": 4}, "num_channels is 4"),
        ({"image_size": 5000}, "image_size is 5000"),
        ({"patch_size": [8, 8]}, "patch_size is"),
        ({"num_attention_heads": 5}, "no multiple of num_attention_heads"),
        ({"use_mask_token": True}, "unknown field 'use_mask_token'"),
    ],
)
def test_a_vision_configuration_out_of_bounds_is_refused(
    shelf: Shelf, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = tiny_models.vit(tmp_path / "pets")
    tiny_models.edit_json(folder / "config.json", **changes)
    assert reason in refusal(shelf, folder, serving=Serving("F32", 17, 0))


def test_patches_larger_than_the_picture_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.vit(tmp_path / "pets")
    tiny_models.edit_json(folder / "config.json", patch_size=64)
    assert "patch_size is larger" in refusal(shelf, folder, serving=Serving("F32", 17, 0))


def test_each_classifier_refuses_the_other_kind_of_model(shelf: Shelf, tmp_path: Path) -> None:
    with shelf.verified(tiny_models.bert_classifier(tmp_path / "r"), task="classify") as verified:
        text = load(verified, device="cpu", threads=1)
    with shelf.verified(tiny_models.vit(tmp_path / "p"), task="classify") as verified:
        sight = load(verified, device="cpu", threads=1)
    with pytest.raises(LoadRefusedError, match="not of a model to classify images"):
        ImageClassifier(text)
    with pytest.raises(LoadRefusedError, match="reads no text"):
        Classifier(sight)


# What is read


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_header_says_what_the_decoder_finds(kind: str) -> None:
    for options in ({}, {"lossless": True}, {"progressive": True}, {"exif": Image.Exif()}):
        file = saved(picture(61, 33), kind, **options)
        header = read_header(file)
        assert (header.format, header.width, header.height) == (kind, 61, 33)
        assert decode(file).size == (61, 33)


def colours() -> dict[str, tuple[bytes, Image.Image]]:
    """Files of every kind of colour, and the picture that each must become."""
    plain = picture()
    grey = plain.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256 + 77)
    alpha = plain.copy()
    alpha.putalpha(grey)
    cmyk = saved(plain.convert("CMYK"), "JPEG", quality=95)
    few = plain.quantize(16)
    return {
        "RGB": (saved(plain), plain),
        "grey": (saved(grey), grey.convert("RGB")),
        "16 bit": (saved(deep), grey.convert("RGB")),
        "alpha": (saved(alpha), plain),
        "palette": (saved(few), few.convert("RGB")),
        "CMYK": (cmyk, Image.open(io.BytesIO(cmyk)).convert("RGB")),
        "one bit": (saved(grey.convert("1")), grey.convert("1").convert("RGB")),
    }


@pytest.mark.parametrize("kind", sorted(colours()))
def test_every_kind_of_colour_becomes_rgb(kind: str) -> None:
    file, expected = colours()[kind]
    assert np.array_equal(np.asarray(decode(file)), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_seen_upright(orientation: int) -> None:
    file = image_files.turned(picture(), orientation)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert np.array_equal(np.asarray(decode(file)), np.asarray(expected))
    assert decode(file).size == ((60, 40) if orientation < 5 else (40, 60))


@pytest.mark.parametrize("resample", range(6))
@pytest.mark.parametrize("size", [(60, 40), (32, 32), (7, 300), (640, 480)])
def test_pixels_equal_the_reference(folder: Path, size: tuple[int, int], resample: int) -> None:
    recipe = {"resample": resample, "image_mean": [0.1, 0.5, 0.7], "image_std": [0.3, 0.2, 0.9]}
    ours = ImageRecipe.read(recipe, size=32).prepare(picture(*size))
    reference = ViTImageProcessorPil(**recipe, size={"height": 32, "width": 32})
    expected = reference(picture(*size), return_tensors="np")["pixel_values"][0]
    assert ours.shape == expected.shape == (3, 32, 32)
    assert np.abs(ours - expected).max() < 1e-6


@pytest.mark.parametrize(
    "recipe", [{}, {"do_normalize": False}, {"do_rescale": False}, {"size": 32}]
)
def test_what_a_recipe_leaves_out_is_what_the_reference_does(recipe: dict[str, Any]) -> None:
    ours = ImageRecipe.read(recipe, size=32).prepare(picture())
    reference = ViTImageProcessorPil(**recipe | {"size": {"height": 32, "width": 32}})
    expected = reference(picture(), return_tensors="np")["pixel_values"][0]
    assert np.abs(ours - expected).max() < 1e-6


# What comes out


def test_scores_equal_the_reference(classifier: ImageClassifier, folder: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(folder)
    processor = ViTImageProcessorPil.from_pretrained(folder)
    for size in ((60, 40), (32, 32), (300, 200)):
        scores = classify(classifier, saved(picture(*size)))
        with torch.inference_mode():
            logits = model(**processor(picture(*size), return_tensors="pt")).logits[0]
        expected = logits.double().softmax(dim=-1).tolist()
        assert tuple(scores) == LABELS
        assert list(scores.values()) == pytest.approx(expected, abs=1e-6)
        assert max(scores.values()) < 0.999


def test_many_images_at_once_have_the_scores_they_have_alone(classifier: ImageClassifier) -> None:
    files = [saved(picture(40 + n, 30)) for n in range(12)]

    async def work() -> list[dict[str, float]]:
        async def one(file: bytes) -> dict[str, float]:
            return (await classifier.score([await classifier.read(file)]))[0]

        return await asyncio.gather(*map(one, files))

    for scores, file in zip(asyncio.run(work()), files, strict=True):
        assert scores == pytest.approx(classify(classifier, file), abs=1e-5, rel=0)


def test_an_image_counts_its_patches_and_one(classifier: ImageClassifier) -> None:
    assert classifier.input_tokens == (32 // 8) ** 2 + 1


def test_a_published_models_names_are_proven_where_they_lie(
    loaded: LoadedModel, shelf: Shelf, folder: Path
) -> None:
    with shelf.verified(folder, task="classify") as verified:
        promised = {entry.name: entry.digest for entry in verified.tensors}
    name = "vit.encoder.layer.0.attention.attention.query.weight"
    assert loaded.resident.hashes([name]) == {name: promised[name]}
    assert loaded.resident.digest == resident_digest(promised)
    assert loaded.resident.changed() is None
    loaded.module.vit.layers[0].attention.q_proj.weight.detach()[0, 0] += 1
    assert loaded.resident.changed() == name


def test_scores_that_are_not_numbers_are_an_error(
    classifier: ImageClassifier, loaded: LoadedModel
) -> None:
    loaded.module.classifier.weight.detach().fill_(float("inf"))
    with pytest.raises(GenerationError, match="not numbers"):
        classify(classifier, SOUND)


def test_images_beyond_what_is_decoded_at_once_are_refused(classifier: ImageClassifier) -> None:
    async def work() -> list[Any]:
        calls = (classifier.read(SOUND) for _ in range(20))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(work())
    assert [type(answer) for answer in answers[16:]] == [UnavailableError] * 4
    assert {answer.shape for answer in answers[:16]} == {(3, 32, 32)}


def test_a_closed_classifier_says_so(classifier: ImageClassifier) -> None:
    pixels = asyncio.run(classifier.read(SOUND))
    classifier.close()
    with pytest.raises(UnavailableError):
        asyncio.run(classifier.read(SOUND))
    with pytest.raises(UnavailableError):
        asyncio.run(classifier.score([pixels]))
