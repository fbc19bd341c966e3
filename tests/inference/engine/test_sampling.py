"""Tokens are a pure function of logits, settings, seed and position."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inference.engine.choosing import choose as make_choice
from inference.engine.choosing import gumbel
from inference.engine.sampling import MAX_SEED, Sampling
from inference.errors import GenerationError, RequestError

FINITE = st.floats(-50, 50, width=32)


def choose(logits: np.ndarray, how: Sampling, position: int) -> int:
    return make_choice(logits, how, position).token


def sampling(**values: object) -> Sampling:
    return Sampling(**{"max_tokens": 1, **values})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("temperature", Decimal("-0.1")),
        ("temperature", Decimal("2.1")),
        ("temperature", Decimal("NaN")),
        ("temperature", Decimal("Infinity")),
        ("top_p", Decimal(0)),
        ("top_p", Decimal("1.01")),
        ("top_p", Decimal("NaN")),
        ("top_k", -1),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("stop", ("",)),
        ("stop", ("a",) * 5),
        ("stop", ("a" * 257,)),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        sampling(**{name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [Decimal(0), Decimal(1)])
def test_logits_that_are_not_numbers_are_refused(bad: float, temperature: Decimal) -> None:
    logits = np.array([0.0, bad, 2.0], dtype=np.float32)
    with pytest.raises(GenerationError, match="not numbers"):
        choose(logits, sampling(temperature=temperature), 0)


def test_logits_of_which_none_is_finite_are_refused() -> None:
    with pytest.raises(GenerationError, match="not numbers"):
        choose(np.full(3, -np.inf, dtype=np.float32), sampling(), 0)


def test_a_token_with_minus_infinity_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf], dtype=np.float32)
    assert {choose(logits, sampling(temperature=Decimal(2)), at) for at in range(200)} == {1}


def test_greedy_ties_go_to_the_lowest_token() -> None:
    assert choose(np.array([1.0, 3.0, 3.0, 3.0], dtype=np.float32), sampling(), 9) == 1


@given(arrays.arrays(np.float32, 50, elements=FINITE), st.integers(0, MAX_SEED))
def test_one_candidate_left_is_the_greedy_choice(logits: np.ndarray, seed: int) -> None:
    greedy = choose(logits, sampling(), 0)
    hot = {"temperature": Decimal(2), "seed": seed}
    assert choose(logits, sampling(**hot, top_k=1), 3) == greedy
    assert choose(logits, sampling(**hot, top_p=Decimal("1e-9")), 3) == greedy


@given(
    arrays.arrays(np.float32, 50, elements=FINITE),
    st.integers(0, MAX_SEED),
    st.integers(0, 2**20),
    st.integers(0, 60),
    st.decimals("0.01", "1", places=2),
)
def test_the_same_inputs_draw_the_same_allowed_token(
    logits: np.ndarray, seed: int, position: int, top_k: int, top_p: Decimal
) -> None:
    how = sampling(temperature=Decimal("0.7"), seed=seed, top_k=top_k, top_p=top_p)
    token = choose(logits, how, position)
    assert token == choose(logits.copy(), how, position)
    if 0 < top_k < 50:
        assert logits[token] >= np.sort(logits)[-top_k]


@pytest.mark.parametrize("temperature", [Decimal("1e-300"), Decimal("0.000001")])
def test_a_temperature_near_zero_is_greedy(temperature: Decimal) -> None:
    logits = np.array([1.0, 2.0, 1.5], dtype=np.float32)
    drawn = {choose(logits, sampling(temperature=temperature, seed=s), 0) for s in range(50)}
    assert drawn == {1}


def test_draws_follow_the_softmax() -> None:
    logits = np.array([0.0, 1.0, 2.0, -1.0], dtype=np.float32)
    temperature = 1.25
    weights = np.exp(logits / temperature)
    expected = weights / weights.sum()
    how = sampling(temperature=Decimal("1.25"), seed=11)
    count = 20_000
    drawn = np.bincount([choose(logits, how, at) for at in range(count)], minlength=4) / count
    # Five standard deviations of a share that is measured so often.
    assert np.all(np.abs(drawn - expected) < 5 * np.sqrt(expected * (1 - expected) / count))


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))

    def drawn(top_p: str) -> set[int]:
        how = sampling(temperature=Decimal(1), top_p=Decimal(top_p), seed=5)
        return {choose(logits, how, at) for at in range(500)}

    assert drawn("0.49") == {0}
    assert drawn("0.79") == {0, 1}
    assert drawn("0.94") == {0, 1, 2}
    assert drawn("1") == {0, 1, 2, 3}


def test_noise_differs_by_seed_and_by_position() -> None:
    rows = [gumbel(0, 0, 8), gumbel(1, 0, 8), gumbel(0, 1, 8), gumbel(2**52, 0, 8)]
    assert len({row.tobytes() for row in rows}) == 4


def test_the_noise_is_pinned() -> None:
    """Receipts of today must be replayable for ever."""
    pinned = ["-0.0405161530559", "0.234735873358", "2.59013362374", "0.651098659382"]
    assert [f"{value:.12g}" for value in gumbel(7, 42, 4)] == pinned


def test_settings_are_stated_as_texts_and_integers() -> None:
    how = sampling(temperature=Decimal("0.70"), top_p=Decimal("1.0"), top_k=5, seed=3)
    assert how.to_json() == {
        "seed": 3,
        "temperature": "0.7",
        "topP": "1",
        "topK": 5,
        "maxTokens": 1,
    }


def reference(logits: np.ndarray, how: Sampling, position: int) -> tuple[int, float]:
    """The definition, with noise for every token."""
    scaled = (logits.astype(np.float64) - float(logits.max())) / float(how.temperature)
    order = np.argsort(-scaled, kind="stable")[: how.top_k or None]
    weights = np.exp(scaled[order])
    before = np.cumsum(weights) - weights
    if how.top_p < 1:
        kept = before < float(how.top_p) * weights.sum()
        kept[0] = True
        order = order[kept]
    scores = np.full(len(scaled), -np.inf)
    scores[order] = (scaled + gumbel(how.seed, position, len(scaled), choice=how.choice))[order]
    token = int(np.argmax(scores))
    rest = np.delete(scores, token)
    return token, float(scores[token] - rest.max()) * float(how.temperature)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 3000),
    st.integers(0, MAX_SEED),
    st.integers(0, 2**20),
    st.sampled_from([0, 1, 2, 7, 50, 1000]),
    st.sampled_from(["1", "0.99", "0.9", "0.5", "0.01"]),
    st.sampled_from(["0.01", "0.3", "1", "2"]),
    st.integers(0, 7),
)
def test_what_is_drawn_is_what_noise_for_every_token_gives(
    draw: int, size: int, seed: int, position: int, top_k: int, top_p: str, heat: str, choice: int
) -> None:
    logits = np.random.default_rng(draw).normal(0, 4, size).astype(np.float32)
    logits[::3] = np.round(logits[::3])  # ties
    how = sampling(
        temperature=Decimal(heat),
        seed=seed,
        top_k=top_k,
        top_p=Decimal(top_p),
        choice=choice,
    )
    made = make_choice(logits, how, position)
    token, margin = reference(logits, how, position)
    assert made.token == token
    assert made.margin == pytest.approx(margin, rel=1e-9, abs=1e-9)


@given(arrays.arrays(np.float32, 40, elements=FINITE), st.integers(0, 5))
def test_log_probabilities_are_the_models_own(logits: np.ndarray, count: int) -> None:
    how = sampling(
        temperature=Decimal(2), top_k=3, frequency_penalty=Decimal(2), top_logprobs=count
    )
    made = make_choice(logits, how, 4)
    exact = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
    assert made.logprob == pytest.approx(exact[made.token], abs=1e-5)
    expected = np.argsort(-logits, kind="stable")[:count].tolist()
    assert [id for id, _ in made.top] == expected
    assert [value for _, value in made.top] == pytest.approx(exact[expected], abs=1e-5)


def test_penalties_fall_on_tokens_of_the_answer() -> None:
    logits = np.array([3.0, 2.9, 2.0], dtype=np.float32)
    often = sampling(frequency_penalty=Decimal("0.04"))
    once = sampling(presence_penalty=Decimal("0.2"))
    assert make_choice(logits, often, 0, {0: 2}).token == 0
    assert make_choice(logits, often, 0, {0: 3}).token == 1
    assert make_choice(logits, once, 0, {0: 1}).token == 1
    assert make_choice(logits, once, 0, {0: 1, 1: 1}).token == 0


def test_only_allowed_tokens_come_and_none_is_an_error() -> None:
    logits = np.array([3.0, 2.0, 1.0], dtype=np.float32)
    hot = sampling(temperature=Decimal(2), top_k=2)
    allowed = np.array([False, False, True])
    assert {make_choice(logits, hot, at, None, allowed).token for at in range(50)} == {2}
    with pytest.raises(GenerationError, match="no token that may come"):
        make_choice(logits, hot, 0, None, np.zeros(3, dtype=np.bool_))


def test_choices_of_one_request_are_drawn_with_noise_of_their_own() -> None:
    logits = np.zeros(1000, dtype=np.float32)
    hot = {"temperature": Decimal(1), "seed": 3}
    drawn = {make_choice(logits, sampling(**hot, choice=n), 5).token for n in range(8)}
    assert len(drawn) > 4
