"""Run folders of before the database: their results.csv and manifest.json, read once to go on from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sim.lab.store import manifest
from sim.lab.store.identity import require_same
from sim.lab.store.tables import read_table
from sim.lab.store.trouble import damaged


@dataclass(frozen=True)
class Earlier:
    """What a folder without a database holds: rows by unit, and what its manifest knows."""

    units: dict[str, list[list]]
    seconds: float = 0.0
    finished: bool = False


def read(folder: Path, config: object, columns: Sequence[str]) -> Earlier:
    """The rows and the seconds of a folder, nothing if it is empty. ``columns``: all but the unit.

    Raises:
        ValueError: it holds results of another configuration or of none, or a damaged file.
    """
    results, known = folder / "results.csv", manifest.read(folder)
    if known is None:
        if results.exists():
            raise ValueError(f"{results} has no manifest.json beside it; choose another --out")
        return Earlier({})
    require_same(known["config"], config, folder)
    units = _units(results, columns) if results.exists() else {}
    return Earlier(units, known["seconds"], known["finished"])


def _units(results: Path, columns: Sequence[str]) -> dict[str, list[list]]:
    try:
        rows = read_table(results)
    except (ValueError, pd.errors.ParserError) as error:
        raise damaged(results) from error
    if list(rows.columns) != ["unit", *columns]:
        raise ValueError(f"{results} has other columns; move it away or choose another --out")
    units: dict[str, list[list]] = {}
    for unit, *row in rows.to_dict("split", index=False)["data"]:
        units.setdefault(unit, []).append(row)
    return units
