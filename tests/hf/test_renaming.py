"""An adapter that names the modules of the base in another layout: refused, and run where it is renamed."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import small  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from sim.merge.peft.files import WEIGHTS  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]

OLD, NEW = "model.language_model", "model"


def test_a_renamed_adapter_is_predicted_and_recorded_as_the_one_it_is(tmp_path, command):
    folder = small.write(tmp_path, "llama")
    given = ["--base", folder / "base", "--prompts", folder / "prompts.jsonl", "--device", "cpu"]
    both = [folder / "a", folder / "b"]
    assert command("sim.predict", *both, *given, "--out", folder / "p")[0] == 0
    assert command("sim.record", *both, *given, "--out", folder / "f")[0] == 0
    expected = pd.read_csv(folder / "p" / "predictions.csv"), load_file(folder / "f")

    tensors = load_file(folder / "b" / WEIGHTS)
    inside = f"base_model.model.{OLD}."
    save_file(
        {k.replace("base_model.model.model.", inside): t for k, t in tensors.items()}, folder / "b" / WEIGHTS
    )
    shutil.copytree(folder / "b", folder / "c")
    for module in ("sim.predict", "sim.record"):
        code, _, err = command(module, *both, *given, "--out", folder / "x")
        assert code == 2 and "name one model in two layouts" in err and f"--rename {OLD}={NEW}" in err
        code, _, err = command(module, folder / "b", folder / "c", *given, "--out", folder / "x")
        assert code == 2 and f"adapts {OLD}.layers.0" in err and "another layout (--rename OLD=NEW)" in err
    renamed = [*both, *given, "--rename", f"{OLD}={NEW}", "--out"]
    code, printed, err = command("sim.predict", *renamed, folder / "p2")
    assert code == 0 and f"prefixes of modules were renamed: '{OLD}' to '{NEW}'" in printed, err
    pd.testing.assert_frame_equal(pd.read_csv(folder / "p2" / "predictions.csv"), expected[0])
    code, printed, err = command("sim.record", *renamed, folder / "f2")
    assert code == 0 and f"--features {folder / 'f2'} --rename {OLD}={NEW}" in printed, err
    again = load_file(folder / "f2")
    assert again.keys() == expected[1].keys()
    for name, values in expected[1].items():
        np.testing.assert_array_equal(again[name], values)
