"""The best merge of a library on one's own base and prompts: some are run, the rest is predicted."""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from sim.forecast import candidates as merges
from sim.forecast import design
from sim.forecast.search import MEAN, Objective, require_objective, search
from sim.hf.base import contents
from sim.hf.extra import releases, with_extra
from sim.hf.prompts import UNTOUCHED, groups, read_prompts
from sim.hf.tokens import questions
from sim.lab import files, report, style
from sim.lab.registry import unknown
from sim.lab.report import Result
from sim.lab.store.identity import environment, plain, versions
from sim.merge import Adapter, aligned
from sim.merge.entry import merged
from sim.merge.layouts import read_adapters, refuse_repeats
from sim.merge.peft.hub import local_base
from sim.merge.recipe import Recipe
from sim.merge.registry import METHODS
from sim.predict.draw import draw
from sim.predict.run import Runner, require_own
from sim.predict.single import Fold, table_of_one, verdict_of_one
from sim.predict.tables import Results, prediction_table, prompt_table
from sim.predict.verdict import table, verdict

CHEAP = 64
"""Where there are no more candidates, all are run."""

AT_ONCE = 4
"""Merges that are run between two fits of the search: a pass of one takes nearly as long as one of four."""

DAMAGE = 0.05
"""What the group ``UNTOUCHED`` may lose where nothing else is said."""


@dataclass(frozen=True, repr=False)
class Prediction(Result):
    """The best linear merge of a library on a base and prompts of one's own, as measured, and the prediction
    of all others. fold: of one adapter alone, the base with it folded in."""

    results: Results
    notes: tuple[str, ...] = ()
    fold: Fold | None = None

    @property
    def verdict(self) -> list[str]:
        """The best merge as measured, what is lost by it, how certain that is, the next command."""
        if len(self.results.adapters) == 1:
            return verdict_of_one(self.results, self.fold)
        return verdict(self.results)

    def table(self) -> pd.DataFrame:
        """Accuracy by group, of the merges that the verdict speaks of."""
        if len(self.results.adapters) == 1:
            return table_of_one(self.results, self.fold)
        return table(self.results)

    def figure(self) -> Figure:
        """Predicted against measured, and the score against the number of runs."""
        return draw(self.results)

    def predictions(self) -> pd.DataFrame:
        """Every candidate and group (``prediction_table``)."""
        return prediction_table(self.results)

    def prompts(self) -> pd.DataFrame:
        """Every prompt (``prompt_table``)."""
        return prompt_table(self.results)


def predict_merges(
    *adapters: str | Path,
    base: str | Path,
    prompts: str | Path,
    out: str | Path = "runs/predict",
    lams: Sequence[float] = (),
    objective: str = MEAN,
    protect: Mapping[str, float] | None = None,
    budget: int | None = None,
    methods: Sequence[str] = (),
    batch_size: int = 8,
    dtype: str | None = None,
    device: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Prediction:
    """Find the best linear merge of PEFT adapters on a base, with few runs; of one, its best strength.

    One adapter is also folded into its base in bfloat16 (``single.Fold``).

    Args:
        adapters: PEFT folders. base: folder of a Hugging Face causal language model. Or ids of the hub.
        prompts: JSON lines, {"prompt": ..., "answer": ..., "group": ...} (``read_prompts``).
        out: what is written, and resumed. lams: strengths (``candidates.grid``).
        objective: "mean" over groups, "worst" of them, or a group. protect: {group: what it may lose of the
        base's accuracy}; None for ``UNTOUCHED``: ``DAMAGE``, if there is that group.
        budget: merges that are run, at most; None for all if they are few, else twice the first design.
        methods: other merge methods to run, each once, with its defaults.
        batch_size, dtype, device: as ``sim.hf`` takes them.
        rename: prefixes of module names to replace, {old: new}, where adapters have another layout.

    Raises: ValueError, one line, for bad input, a missing extra, or a folder of another configuration.
    """
    start = time.monotonic()
    given, prompts, out = str(base), Path(prompts), Path(out)
    if not adapters:
        raise ValueError("give at least one adapter folder")
    if batch_size < 1:
        raise ValueError(f"--batch-size is {batch_size}: give 1 or more")
    if others := [name for name in methods if name not in METHODS]:
        raise unknown(METHODS.what, others[0], METHODS)
    refuse_repeats(adapters)
    base, library = local_base(base), read_adapters(adapters, rename)
    count = len(library)
    notes = [adapter.note for adapter in aligned(library) if adapter.note]
    lines, lams = read_prompts(prompts), merges.grid(count, lams)
    names = tuple(groups(lines))
    if protect is None:
        protect = {UNTOUCHED: DAMAGE} if UNTOUCHED in names and len(names) > 1 else {}
    aim = Objective(objective, dict(protect))
    require_objective(aim, names)
    every = merges.candidates(count, lams)
    first = merges.first(every)
    least = len(first) + 1
    if budget is not None and budget < least:
        raise ValueError(
            f"--budget {budget}: give {least} or more, for the base, single adapters and a merge"
        )
    budget = budget or (len(every) if len(every) <= CHEAP else 2 * design.size(count))
    phase = f"{len(every)} merges of {count} adapters, at most {budget} to run; loading {given}"
    with tqdm(desc=phase, bar_format="{desc}", leave=False):
        model = with_extra("sim.hf._model")
        config = _config(library, base, prompts, dtype, methods) | (
            {"rename": dict(rename)} if rename else {}
        )
        require_own(out, config)
        extra = [_method(library, name, out) for name in methods]
        loaded = model.load(base, [*library, *extra], dtype, device)
        items, remarks = questions(loaded.tokenizer, lines, loaded.longest, loaded.rows)
    ask = with_extra("sim.predict._ask").ask

    def asking(items, weights, rivals, advance):  # a column beyond the adapters only names a run
        return ask(loaded, items, weights[:, : loaded.count], rivals, advance)

    folders = tuple(str(adapter.path) for adapter in library)
    with Runner(out, config, items, batch_size, asking) as runner:
        results = _searched(runner, every, first, lams, budget, [line.group for line in lines], aim, methods)
        fold = _fold(runner, loaded) if count == 1 else None
    results = Results(folders, tuple(lines), tuple(items), **results)
    prediction = Prediction(results, (*notes, *loaded.notes, *remarks), fold)
    facts = {"base": given, "prompts": str(prompts), "device": str(loaded.model.device)}
    seconds = round(time.monotonic() - start, 1)  # of this sitting
    _write(prediction, out, {**facts, "seconds": seconds, "config": config})
    return prediction


def _searched(runner, every, first, lams, budget, of, aim, methods) -> dict[str, Any]:
    """The fields of ``Results`` that a search gives; strengths of methods stand behind those of adapters."""
    count = every.shape[1]

    def run(weights):
        return runner.run(np.pad(weights, ((0, 0), (0, len(methods)))))

    runner.phase = "design"
    if budget >= len(every):
        places = list(range(len(every)))
    else:
        places = design.spread(every, first, min(budget, design.size(count) + 1))
    state, path = None, []
    for state in search(run, every, places, of, aim, budget, AT_ONCE):
        path.append((len(state.places), every[state.best].tolist()))
        runner.phase = f"search, {state.open} open"
    if state.open == 0 and len(state.places) < min(budget, len(every)):  # strengths that differ by adapter
        ran = every[list(state.places)]
        close = merges.near(every[state.best], lams)
        wider = np.concatenate([ran, close[~(close[:, None] == every[None]).all(-1).any(1)]])
        if len(wider) > len(ran):
            runner.phase = "strengths"
            for state in search(run, wider, range(len(ran)), of, aim, budget, AT_ONCE):
                path.append((len(state.places), wider[state.best].tolist()))
            rest = every[~(every[:, None] == wider[None]).all(-1).any(1)]
            every = np.concatenate([wider, rest])
    runner.phase = "methods"
    units = np.pad(np.eye(len(methods)), ((0, 0), (count, 0)))
    other = runner.run(units) if methods else None
    weights = every[list(state.places)]
    return {
        "candidates": every,
        "places": state.places,
        "outcomes": state.outcomes,
        "loglik": runner.loglik(np.pad(weights, ((0, 0), (0, len(methods))))),
        "objective": aim,
        "model": state.model,
        "best": state.best,
        "open": state.open,
        "path": tuple(path),
        "methods": dict(zip(methods, other.lead, strict=True)) if methods else {},
    }


def _fold(runner: Runner, loaded: Any) -> Fold | None:
    """The prompts on the base with the adapter folded in, which spends the model; None if it is packed."""
    losses = with_extra("sim.hf._model").fold(loaded)
    if losses is None:
        return None
    runner.phase = "folded"
    weights = np.zeros((1, loaded.count + 1))
    weights[0, -1] = 1
    return Fold(runner.run(weights).lead[0], losses)


def _method(library: Sequence[Adapter], name: str, out: Path) -> Adapter:
    """The merge of a method, with its defaults, written beside the results and read like an adapter."""
    folder = out / "methods" / name
    if not folder.exists():
        recipe = Recipe(tuple(str(adapter.path) for adapter in library), name)
        merged(library, recipe, None).write(folder, allow_rounding=True)
    return read_adapters([folder], None)[0]


def _config(
    library: Sequence[Adapter], base: Path, prompts: Path, dtype: str | None, methods: Sequence[str]
) -> dict[str, Any]:
    """All that decides an answer, files by their contents; not what the answers are used for."""
    return {
        "adapters": [files.digests(adapter.path.glob("adapter_*")) for adapter in library],
        "base": contents(base),
        "prompts": [*files.digests([prompts]).values()],
        "dtype": dtype or "default",
        "methods": list(methods),
    }


def _write(prediction: Prediction, out: Path, facts: dict[str, Any]) -> None:
    for name, frame in (("predictions", prediction.predictions()), ("prompts", prediction.prompts())):
        files.write_text(out / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    picture = prediction.figure()
    style.save(picture, out / "prediction")
    manifest = {"adapters": prediction.results.adapters, **environment(facts["device"]), **facts}
    manifest = plain({**manifest, "versions": {**versions(), **releases()}})
    files.write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    write_page(prediction, out, picture, manifest)


def write_page(prediction: Prediction, out: Path, picture: Figure, manifest: dict[str, Any]) -> None:
    """report.html: verdict, ``picture``, every table, the manifest with the command that runs."""
    sections = {
        "Adapters": prediction.results.adapters,
        "The best merge beside others": prediction.table(),
        "Every merge": prediction.predictions(),
        "Every prompt": prediction.prompts(),
    }
    command = {"command": shlex.join(["python", "-m", "sim.predict", *sys.argv[1:]])}
    figures = {"Accuracy of every merge, predicted or measured": picture}
    title = "Which merge is best?"
    report.write(out, title, prediction.verdict, figures, sections, command | manifest, prediction.notes)
