"""Whoever calls too often is told when to come again, and cannot fill the node's memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.limits import Buckets, Rate, RateLimitedError, address_key

SECOND = 10**9


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def buckets(clock: Clock, per_minute: int = 60, burst: int = 2, max_keys: int = 4) -> Buckets:
    return Buckets(Rate(per_minute, burst), "payer", max_keys=max_keys, clock=clock)


def wait(bucket: Buckets, key: str = "a") -> int:
    try:
        bucket.take(key)
    except RateLimitedError as error:
        return error.retry_after_s
    return 0


def test_a_call_beyond_the_burst_is_refused_with_the_time_to_wait() -> None:
    clock = Clock()
    bucket = buckets(clock)
    assert [wait(bucket) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(RateLimitedError, match="too many calls by this payer") as refusal:
        bucket.take("a")
    assert (refusal.value.status, refusal.value.code) == (429, "rate_limited")
    clock.now += SECOND - 1
    assert wait(bucket) == 1
    clock.now += 1
    assert [wait(bucket), wait(bucket)] == [0, 1]


def test_whoever_comes_again_when_told_is_served() -> None:
    clock = Clock()
    bucket = buckets(clock, per_minute=7, burst=1)
    for _ in range(20):
        if seconds := wait(bucket):
            clock.now += seconds * SECOND
            assert wait(bucket) == 0


def test_each_has_a_bucket_of_its_own() -> None:
    bucket = buckets(Clock(), burst=1)
    assert [wait(bucket, "a"), wait(bucket, "b"), wait(bucket, "a")] == [0, 0, 1]


def test_without_a_rate_nothing_is_counted() -> None:
    bucket = buckets(Clock(), per_minute=0)
    assert [wait(bucket) for _ in range(100)] == [0] * 100
    assert len(bucket) == 0


def test_what_strangers_make_it_remember_is_bounded() -> None:
    clock = Clock()
    bucket = buckets(clock, burst=1)
    for key in range(1000):
        assert wait(bucket, str(key)) == 0
        assert len(bucket) <= 4
    # The last ones are still known; full buckets are forgotten once anybody comes.
    assert wait(bucket, "999") == 1
    clock.now += 2 * SECOND
    wait(bucket, "new")
    assert len(bucket) == 1


@given(
    per_minute=st.integers(1, 10_000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.integers(0, 5 * SECOND), max_size=60),
)
def test_no_more_calls_pass_than_the_burst_and_the_rate_allow(
    per_minute: int, burst: int, pauses: list[int]
) -> None:
    clock = Clock()
    bucket = buckets(clock, per_minute, burst)
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += wait(bucket) == 0
    every = 60 * SECOND // per_minute
    assert passed <= burst + clock.now // every


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_an_ipv6_network_is_one_customer(host: str, key: str) -> None:
    assert address_key(host) == key
