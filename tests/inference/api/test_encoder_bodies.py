"""Bodies of embeddings and classifications: what is read, and which field a refusal names."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from inference.api.classify import read_image_field
from inference.api.embeddings import told
from inference.api.encoder_bodies import ClassifyRequest, EmbeddingsRequest
from inference.api.schemas import parse
from inference.errors import RequestError
from tests.inference.image_files import picture, saved


def embeddings(**body: Any) -> EmbeddingsRequest:
    return parse(EmbeddingsRequest, json.dumps({"model": "m", "input": "x"} | body).encode())


def classify(**body: Any) -> ClassifyRequest:
    return parse(ClassifyRequest, json.dumps({"model": "m"} | body).encode())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": True}, "input"),
        ({"input": ["a", 7]}, "input"),
        ({"input": [7, "a"]}, "input"),
        ({"input": [1, True]}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": [[1], "a"]}, "input"),
        ({"input": [[1], [2.0]]}, "input"),
        ({"input": [[[1]]]}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "384"}, "dimensions"),
        ({"user": ""}, "user"),
        ({"truncate": True}, "truncate"),
        ({"model": ""}, "model"),
    ],
)
def test_a_wrong_field_of_embeddings_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        embeddings(**body)
    assert caught.value.param == field
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": []}, "input"),
        ({"input": [7]}, "input"),
        ({"input": ["a"] * 257}, "input"),
        ({"image": ""}, "image"),
        ({"image": ["a"]}, "image"),
        ({"image": {"url": "x"}}, "image"),
        ({"images": "x"}, "images"),
    ],
)
def test_a_wrong_field_of_a_classification_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        classify(**body)
    assert caught.value.param == field


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/cat.png",
        "file:///etc/passwd",
        "not base64!",
        "YWJj\n",
        "data:image/png,abc",
        "data:image/png;base64,???",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:application/pdf;base64,JVBERi0=",
    ],
)
def test_an_image_that_is_no_data_is_refused_and_nothing_is_fetched(text: str) -> None:
    with pytest.raises(RequestError, match="image") as caught:
        read_image_field(text)
    assert caught.value.param == "image"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        ([[1], []], ((1,), ())),
    ],
)
def test_input_has_the_shapes_of_openai(given: Any, read: Any) -> None:
    assert embeddings(input=given).input == read


def test_an_image_comes_as_base64_or_in_a_data_url() -> None:
    file = saved(picture())
    text = base64.b64encode(file).decode()
    assert read_image_field(text) == (file, None)
    assert read_image_field("data:image/png;base64," + text) == (file, "PNG")
    assert read_image_field("data:image/jpeg;base64," + text) == (file, "JPEG")


def test_vectors_are_told_as_numbers_or_as_little_endian_floats() -> None:
    rows = np.array([[0.5, -1.0], [0.25, 2.0]])
    assert told(rows, as_base64=False) == [[0.5, -1.0], [0.25, 2.0]]
    packed = [base64.b64decode(str(text)) for text in told(rows, as_base64=True)]
    assert packed == [b"\x00\x00\x00\x3f\x00\x00\x80\xbf", b"\x00\x00\x80\x3e\x00\x00\x00\x40"]
