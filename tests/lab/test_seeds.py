"""Keys by place, never carried; draws by profile."""

import itertools

import jax
import pytest

from sim.lab import seeds


def data(key):
    return tuple(jax.random.key_data(key).tolist())


def test_a_key_is_fold_in_along_its_path():
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 3), 5)
    assert data(seeds.key(3, 5, root=7)) == data(expected)
    assert data(seeds.key(root=7)) == data(jax.random.key(7))
    assert data(seeds.key(3)) == data(seeds.key(3, root=0))


def test_every_place_has_a_key_of_its_own():
    places = [
        (root, *path) for root in (0, 1) for n in (1, 2) for path in itertools.product(range(4), repeat=n)
    ]
    distinct = {data(seeds.key(*path, root=root)) for root, *path in places}
    assert len(distinct) == len(places)


def test_keys_are_fold_in_of_the_index_however_many():
    root = seeds.key(1)
    many = seeds.keys(root, 5)
    for index in range(5):
        assert data(many[index]) == data(jax.random.fold_in(root, index))
    assert (jax.random.key_data(seeds.keys(root, 3)) == jax.random.key_data(many[:3])).all()


@pytest.mark.parametrize(
    ("name", "draws", "paper"),
    [("smoke", [2, 8, 8, 12], 8), ("quick", [2, 16, 40, 200], 16), ("paper", [16, 128, 320, 1600], 24)],
)
def test_draws_of_a_profile(name, draws, paper):
    effort = seeds.EFFORTS[name]
    assert [effort(quick) for quick in (2, 16, 40, 200)] == draws
    assert effort(16, paper=24) == paper  # a stated number for the paper profile alone
    assert effort(1) == (8 if name == "paper" else 1)


def test_smoke_measures_at_two_places_others_at_all():
    places = list("abcde")
    assert seeds.EFFORTS["smoke"].some(places) == ["a", "c"]
    assert seeds.EFFORTS["quick"].some(places) == seeds.EFFORTS["paper"].some(places) == places
    assert list(seeds.EFFORTS) == ["smoke", "quick", "paper"]
