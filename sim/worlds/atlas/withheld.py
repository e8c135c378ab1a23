"""Which facts of the atlas pretraining may withhold, so that a guess among n answers is right once in n.

All answers differ, and no name shares letters with another that would give it away. So a model that does not
know the facts can only guess among the answers.
"""

import numpy as np

from sim.worlds.atlas.facts import Atlas
from sim.worlds.building import take


def alike(book: Atlas, *entities: int) -> bool:
    """Whether two of the names share a piece, as Algiers and Algeria do: then one hints at the other."""
    written = [{p for p in book.written[e].tolist() if book.pieces[p]} for e in entities]
    return len(set.union(*written)) < sum(map(len, written))


def candidates_of(book: Atlas, third: np.ndarray, t: int) -> np.ndarray:
    """Countries of a third whose facts may be withheld. None is the successor of a historic state; each has a
    neighbour, as the countries of traces have; capital, country and currency share no piece."""
    capitals = book.facts["country"][0]
    currency, successors = book.facts["currency"][1], book.facts["successor"][1]
    inland = np.setdiff1d(book.facts["neighbour"][0], successors)
    candidates = [c for c in inland if third[c] == t and not alike(book, capitals[c], c, currency[c])]
    return np.asarray(candidates, int)


def distinct(rng, candidates: np.ndarray, book: Atlas, count: int, what: str) -> np.ndarray:
    """A draw of countries of which no two pay with a currency of one name."""
    drawn = rng.permutation(candidates)
    _, places = np.unique(book.facts["currency"][1][drawn], return_index=True)
    message = f"currencies serve for {what} = {count}: use more countries"
    return drawn[take(np.sort(places), count, message)]


def states_of(rng, book: Atlas, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Historic states and their successors, all of different currencies, names not alike."""
    states, after = book.facts["successor"]
    currency = book.facts["currency"][1]
    fit = np.asarray([not alike(book, s, a, currency[a]) for s, a in zip(states, after, strict=True)])
    drawn = distinct(rng, after[fit], book, count, "states")
    return np.asarray([states[fit][after[fit] == country][0] for country in drawn]), drawn
