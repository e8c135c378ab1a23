"""A base by its id of the hub gives what its folder gives."""

import shutil

import pandas as pd
import pytest
from safetensors.numpy import load_file

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

import small  # noqa: E402

from sim.merge.peft import hub  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]


def test_an_id_of_a_base_is_its_folder(tmp_path, command, monkeypatch):
    folder, calls = small.write(tmp_path / "files", "llama"), []
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "base", folder / "whole")

    def download(name, wanted):
        calls.append((name, wanted))
        return str(folder / "base")

    monkeypatch.setattr(hub, "download", download)
    both, asks = [folder / "a", folder / "b"], ["--prompts", folder / "prompts.jsonl", "--device", "cpu"]
    printed = {}
    for base, out in ((folder / "base", "by_folder"), ("org/base", "by_id")):
        assert command("sim.record", *both, "--base", base, *asks, "--out", f"{out}.safetensors")[0] == 0
        for module, *words in (
            ("sim.predict", *both, "--base", base, *asks, "--out", f"{out}_predict"),
            ("sim.diagnose", *both, "--base", base, "--out", f"{out}_diagnose"),
            ("sim.merge", folder / "a", "--check", folder / "whole", "--base", base),
        ):
            code, text, err = command(module, *words)
            assert code == 0, err
            printed[module, out] = text.replace(f"{out}_", "").replace(str(base), "BASE")
    assert calls == [("org/base", hub.BASE)] * 4
    one, other = (pd.read_csv(f"{out}_predict/predictions.csv") for out in ("by_folder", "by_id"))
    pd.testing.assert_frame_equal(one, other)
    one, other = (load_file(f"{out}.safetensors") for out in ("by_folder", "by_id"))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    for module in ("sim.predict", "sim.diagnose", "sim.merge"):
        assert printed[module, "by_folder"] == printed[module, "by_id"]
