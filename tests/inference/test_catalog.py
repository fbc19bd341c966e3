"""Leases, swaps and stops: no call loses its model, no model is answered for by another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from inference.catalog import Catalog, CatalogEntry
from inference.errors import ModelStoppedError, ModelUnknownError
from inference.payments.pricing import Price

PRICE = Price(1, 0, 0)


def entry(name: str, number: int = 1, task: str = "chat") -> CatalogEntry:
    """An entry without a model in it: the catalog looks at names, ids and tasks only."""
    verified: Any = SimpleNamespace(
        model_id=bytes([number]) * 32,
        manifest=SimpleNamespace(task=task),
        block=f"block of {number}",
    )
    nothing: Any = None
    return CatalogEntry(name, verified, nothing, nothing, PRICE)


@pytest.fixture
def freed() -> list[CatalogEntry]:
    return []


@pytest.fixture
def catalog(freed: list[CatalogEntry]) -> Catalog:
    return Catalog(on_free=freed.append)


def test_an_unknown_name_is_refused_and_what_is_sold_is_named(catalog: Catalog) -> None:
    catalog.add(entry("one"))
    catalog.add(entry("two", 2, task="classify"))
    with pytest.raises(ModelUnknownError, match="no model 'three'") as refusal:
        catalog.lease("three")
    assert refusal.value.hint == "served here: one, two"
    with pytest.raises(ModelUnknownError):
        catalog.lease("two", task="chat")
    with pytest.raises(ModelUnknownError):
        catalog.remove("three")


def test_after_a_swap_the_old_id_is_answered_by_nobody(catalog: Catalog) -> None:
    old, new = entry("one", 1), entry("one", 2)
    catalog.add(old)
    assert catalog.get(old.model_id) is old
    assert catalog.add(new) is old
    assert catalog.get("one") is new
    assert catalog.get(new.model_id.upper().replace("X", "x")) is new
    with pytest.raises(ModelUnknownError):
        catalog.lease(old.model_id)


def test_an_id_means_its_model_whatever_another_is_called(catalog: Catalog) -> None:
    real = entry("real", 1)
    catalog.add(entry(real.model_id, 2))
    catalog.add(real)
    assert catalog.get(real.model_id) is real


def test_a_model_that_leaves_is_freed_when_its_last_call_ends(
    catalog: Catalog, freed: list[CatalogEntry]
) -> None:
    one = entry("one")
    catalog.add(one)
    first, second = catalog.lease("one"), catalog.lease("one")
    catalog.remove("one")
    with pytest.raises(ModelUnknownError):
        catalog.lease("one")
    assert catalog.held() == (one,)
    first.end()
    first.end()
    assert freed == []
    assert catalog.standing(one).retired
    second.end()
    assert freed == [one]
    assert catalog.held() == ()


def test_a_model_without_calls_is_freed_at_once(
    catalog: Catalog, freed: list[CatalogEntry]
) -> None:
    one, two = entry("one"), entry("one", 2)
    catalog.add(one)
    with catalog.lease("one"):
        pass
    catalog.add(two)
    assert freed == [one]
    catalog.remove("one")
    assert freed == [one, two]
    assert catalog.hold(two) is None


def test_calls_under_way_at_a_swap_keep_the_old_model_in_memory(
    catalog: Catalog, freed: list[CatalogEntry]
) -> None:
    old, new = entry("one", 1), entry("one", 2)
    catalog.add(old)
    lease = catalog.lease("one")
    catalog.add(new)
    with catalog.lease("one") as found:
        assert found is new
    assert lease.entry is old
    assert catalog.block(lease.entry) == "block of 1"
    assert freed == []
    lease.end()
    assert freed == [old]


def test_all_give_way_or_none(catalog: Catalog, freed: list[CatalogEntry]) -> None:
    one, two = entry("one"), entry("two", 2)
    catalog.add(one)
    catalog.add(two)
    lease = catalog.lease("two")
    assert not catalog.evict([one, two])
    assert [e.name for e in catalog] == ["one", "two"]
    lease.end()
    assert catalog.evict([one, two])
    assert freed == [one, two]
    assert not catalog.evict([one])


def test_a_stopped_model_is_refused_with_the_reason(catalog: Catalog) -> None:
    catalog.add(entry("one"))
    assert catalog.stop("one", "it was revoked")
    assert not catalog.stop("one", "again")
    assert catalog.stopped("one") == "it was revoked"
    for name in ("one", entry("one").model_id):
        with pytest.raises(ModelStoppedError, match="it was revoked"):
            catalog.lease(name)


def test_only_what_was_tampered_with_fails_its_calls_in_flight(catalog: Catalog) -> None:
    one = entry("one")
    catalog.add(one)
    catalog.check_sound(one)
    catalog.stop("one", "it was revoked")
    catalog.check_sound(one)
    # Found changed after it was revoked: the calls that still run must not be charged.
    assert catalog.stop("one", "a tensor changed", tampered=True)
    assert not catalog.stop("one", "a tensor changed", tampered=True)
    with pytest.raises(ModelStoppedError, match=r"a tensor changed; nothing was charged"):
        catalog.check_sound(one)


def test_a_model_that_left_can_still_be_found_changed(catalog: Catalog) -> None:
    old, new = entry("one", 1), entry("one", 2)
    catalog.add(old)
    lease = catalog.lease("one")
    catalog.add(new)
    assert catalog.stop(old, "a tensor changed", tampered=True)
    with pytest.raises(ModelStoppedError):
        catalog.check_sound(old)
    catalog.check_sound(new)
    assert catalog.get("one") is new
    lease.end()
    assert not catalog.stop(old, "too late", tampered=True)


def test_a_model_loaded_anew_is_sold_again(catalog: Catalog) -> None:
    catalog.add(entry("one"))
    catalog.stop("one", "a tensor changed", tampered=True)
    again = entry("one")
    catalog.add(again)
    assert catalog.get("one") is again
    catalog.check_sound(again)


def test_of_two_copies_the_sound_one_answers_for_the_id(catalog: Catalog) -> None:
    first, second = entry("first"), entry("second")
    catalog.add(first)
    catalog.add(second)
    catalog.stop("first", "a tensor changed", tampered=True)
    assert catalog.get(first.model_id) is second


def test_a_block_is_noted_for_the_entry_that_was_asked_about(catalog: Catalog) -> None:
    old, new = entry("one", 1), entry("one", 2)
    catalog.add(old)
    catalog.add(new)
    catalog.set_block(old, cast(Any, "newer"))
    assert catalog.block(new) == "block of 2"
    catalog.set_block("one", cast(Any, "newer"))
    assert catalog.block(new) == "newer"
