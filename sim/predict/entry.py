"""The prediction of a library on one's own base and prompts: asked, kept, written."""

import functools
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sim.hf.base import contents
from sim.hf.extra import releases, with_extra
from sim.hf.prompts import read_prompts
from sim.hf.tokens import Question, batch, questions
from sim.lab import files, report, style
from sim.lab.entry.result import Result
from sim.lab.store.identity import environment, plain, versions
from sim.merge import Adapter, aligned
from sim.merge.layouts import read_adapters
from sim.predict.draw import draw
from sim.predict.run import Judge, answered, require_own
from sim.predict.tables import Results, prediction_table, prompt_table
from sim.predict.verdict import table, verdict
from sim.predict.weights import Weights, grid, weights

MOST = 128
"""Merges that are predicted, at most, before only common strengths are; two adapters have 25, three 216."""


@dataclass(frozen=True, repr=False)
class Prediction(Result):
    """What is predicted of every linear merge of a library, on a base and prompts of one's own."""

    results: Results
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> list[str]:
        """The best merge, what is lost by it, what makes it certain (or how far the outcome is off)."""
        return verdict(self.results)

    def table(self) -> pd.DataFrame:
        """Accuracy by group and common strength, predicted [interval], and measured after a bar."""
        return table(self.results)

    def figure(self) -> Figure:
        """Accuracy against the common strength."""
        return draw(self.results)

    def predictions(self) -> pd.DataFrame:
        """Every merge and group (``prediction_table``)."""
        return prediction_table(self.results)

    def prompts(self) -> pd.DataFrame:
        """Every prompt with its critical lambda (``prompt_table``)."""
        return prompt_table(self.results)


def predict_merges(
    *adapters: str | Path,
    base: str | Path,
    prompts: str | Path,
    out: str | Path = "runs/predict",
    lams: Sequence[float] = (),
    most: int = MOST,
    check: bool = False,
    batch_size: int = 8,
    dtype: str | None = None,
    device: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Prediction:
    """Predict every linear merge of two or more PEFT adapters on a base, from each adapter run alone.

    Args:
        adapters: PEFT folders. base: folder of a Hugging Face causal language model.
        prompts: JSON lines, {"prompt": ..., "answer": ..., "group": ...} (``read_prompts``).
        out: what is written, and resumed. lams: strengths (``grid``). most: as ``weights`` takes it.
        check: run the merges as well. batch_size, dtype, device: as ``sim.hf`` takes them.
        rename: prefixes of module names to replace, {old: new}, where adapters have another layout.

    Raises: ValueError, one line, for bad input, a missing extra, or a folder of another configuration.
    """
    start = time.monotonic()
    base, prompts, out = Path(base), Path(prompts), Path(out)
    if len(adapters) < 2:
        raise ValueError(f"a merge has at least two adapters, not {len(adapters)}")
    if batch_size < 1:
        raise ValueError(f"--batch-size is {batch_size}: give 1 or more")
    library = read_adapters(adapters, rename)
    notes = [adapter.note for adapter in aligned(library) if adapter.note]
    lines, lams = read_prompts(prompts), grid(len(library), lams)
    each = weights(len(library), lams, most)
    model = with_extra("sim.hf._model")
    config = _config(library, base, prompts, lams, each, dtype) | ({"rename": dict(rename)} if rename else {})
    require_own(out, config)
    loaded = model.load(base, library, dtype, device)
    items, remarks = questions(loaded.tokenizer, lines, loaded.longest, loaded.rows)
    answers = answered(out, config, items, batch_size, _judges(loaded, items[:1], each, check))
    folders = tuple(str(adapter.path) for adapter in library)
    table = Results(folders, tuple(lines), tuple(items), tuple(each), answers)
    prediction = Prediction(table, (*notes, *loaded.notes, *remarks))
    facts = {"base": str(base), "prompts": str(prompts), "device": str(loaded.model.device)}
    seconds = round(time.monotonic() - start, 1)  # of this sitting
    _write(prediction, out, {**facts, "seconds": seconds, "config": config})
    return prediction


def _config(
    adapters: Sequence[Adapter],
    base: Path,
    prompts: Path,
    lams: Sequence[float],
    each: Sequence[Weights],
    dtype: str | None,
) -> dict[str, Any]:
    """All that decides an answer, files by their contents."""
    return {
        "adapters": [files.digests(adapter.path.glob("adapter_*")) for adapter in adapters],
        "base": contents(base),
        "prompts": [*files.digests([prompts]).values()],
        "lams": lams,
        "merges": len(each),  # with the strengths this tells which
        "dtype": dtype,
    }


def _judges(loaded: Any, first: Sequence[Question], each: Sequence[Weights], check: bool) -> dict[str, Judge]:
    names = ("sim.hf._run", "sim.hf._stream", "sim.predict._logits")
    running, inner, logits = (with_extra(name) for name in names)

    @functools.cache
    def readout():  # of the model, whatever it is asked
        return inner.readout(loaded, batch(list(first)))

    def runner(items):
        together = batch(items)
        return functools.partial(running.answer_logits, loaded, together), together

    def predicting(items):
        with running.fitting():
            run, together = runner(items)
            end = readout()
            streams = functools.partial(inner.answer_streams, loaded, end, together)
            step = logits.STEP.get(loaded.model.dtype, logits.COARSE)
            return logits.predicted(run, together, each, (streams, end) if end else None, step)

    def checking(items):
        with running.fitting():
            return logits.measured(*runner(items), each)

    return {"predicting": predicting} | ({"checking": checking} if check else {})


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
        "Common strengths, predicted [interval] | measured": prediction.table(),
        "Every merge": prediction.predictions(),
        "Every prompt": prediction.prompts(),
    }
    command = {"command": shlex.join(["python", "-m", "sim.predict", *sys.argv[1:]])}
    figures = {"Accuracy of the merge against the common strength": picture}
    title = "What would their merges answer?"
    report.write(out, title, prediction.verdict, figures, sections, command | manifest, prediction.notes)
