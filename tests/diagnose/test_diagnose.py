"""The diagnosis: each number against a dense computation, planted cases with known verdicts, the command."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from browser import needs_browser, run_script
from safetensors.numpy import load_file, save_file

from sim.diagnose import diagnose
from sim.diagnose.measure import shared_cores
from sim.diagnose.page import as_json
from sim.diagnose.tables import module_table
from sim.diagnose.verdict import verdict
from sim.lab.report import natural
from sim.merge import Adapter, read_adapter, write_adapter
from theory import interference
from theory.lowrank import LowRank, dense

DATA = Path(__file__).parents[1] / "merge" / "data"
D, R = 12, 3


def adapter(modules, name="x"):
    return Adapter(Path(name), {}, modules)


def random_update(rng, out_dim=D, in_dim=D + 2, rank=R):
    return LowRank(rng.normal(size=(out_dim, rank)), rng.normal(size=(rank, in_dim)), rng.uniform(0.5, 2))


def planted(columns, rows, values):
    """Delta W = sum_k values_k e_columns_k e_rows_k^T, so every angle is known."""
    b, a = np.zeros((D, len(values))), np.zeros((len(values), D))
    for k, (i, j, s) in enumerate(zip(columns, rows, values, strict=True)):
        b[i, k], a[k, j] = s, 1.0
    return LowRank(b, a, 1.0)


def test_every_number_against_dense_algebra():
    rng = np.random.default_rng(0)
    names = ("layers.2.q", "layers.10.q")
    adapters = [adapter({name: random_update(rng) for name in names}) for _ in range(3)]
    report = diagnose(adapters)
    assert list(report["modules"]) == list(names)
    for name, measures in report["modules"].items():
        deltas = [np.asarray(dense(a.modules[name])) for a in adapters]
        u, s, v = zip(*(np.linalg.svd(delta) for delta in deltas), strict=True)
        u, s, v = [x[:, :R] for x in u], [x[:R] for x in s], [x[:R].T for x in v]
        np.testing.assert_allclose(measures["spectrum"], s, rtol=1e-10)
        np.testing.assert_allclose(np.sqrt(measures["norm2"]), [np.linalg.norm(d) for d in deltas])
        np.testing.assert_allclose(measures["arrow_gap"], [1 - x[1] / x[0] for x in s])
        share = s[0] / s[0].sum()
        assert measures["effective_rank"][0] == pytest.approx(np.exp(-np.sum(share * np.log(share))))
        for i in range(3):
            critical = []
            for k in range(R):
                swing = u[i][:, k] @ sum(deltas) @ v[i][:, k] / s[i][k]
                critical.append(1 / (2 * swing) if swing > 0 else np.inf)
            np.testing.assert_allclose(measures["critical_lambda"][i], critical, rtol=1e-9)
            for j in range(3):
                assert measures["inner"][i][j] == pytest.approx(np.sum(deltas[i] * deltas[j]))
                assert measures["interference2"][i][j] == pytest.approx(np.linalg.norm(deltas[j] @ v[i]) ** 2)
                assert measures["prototype_cosine"][i][j] == pytest.approx(abs(v[i][:, 0] @ v[j][:, 0]))
                angles = np.linalg.svd(v[i].T @ v[j], compute_uv=False)
                np.testing.assert_allclose(measures["row_cosines"][i][j], angles, atol=1e-10)
                angles = np.linalg.svd(u[i].T @ u[j], compute_uv=False)
                np.testing.assert_allclose(measures["column_cosines"][i][j], angles, atol=1e-10)
        assert measures["sum2"] == pytest.approx(np.linalg.norm(sum(deltas)) ** 2)
        assert measures["svd_kept2"] == pytest.approx(np.sum(np.linalg.svd(sum(deltas))[1][:R] ** 2))
        roots = [np.sqrt(a.modules[name].scale / 3) for a in adapters]
        b = sum(root * a.modules[name].b for root, a in zip(roots, adapters, strict=True))
        a = sum(root * a.modules[name].a for root, a in zip(roots, adapters, strict=True))
        assert measures["cross2"] == pytest.approx(np.linalg.norm(b @ a - sum(deltas) / 3) ** 2)
    total = report["total"]
    blocks = [[np.asarray(dense(a.modules[name])) for name in names] for a in adapters]
    norms = [np.sqrt(sum(np.linalg.norm(block) ** 2 for block in row)) for row in blocks]
    np.testing.assert_allclose(total["norm"], norms)
    overlap = sum(np.sum(left * right) for left, right in zip(blocks[0], blocks[2], strict=True))
    assert total["cosine"][0][2] == pytest.approx(overlap / norms[0] / norms[2])


@pytest.mark.parametrize(("out_dim", "in_dim"), [(40, 30), (7, 30), (2000, 7), (1, 1)])
def test_cores_stand_for_the_updates_whatever_their_shapes(out_dim, in_dim):
    """Ranks 2, 3 and 4: the module longer than 9 both ways, one way, neither way. Grams say it all."""
    rng = np.random.default_rng(5)
    updates = [random_update(rng, out_dim, in_dim, rank) for rank in (2, 3, 4)]
    cores = shared_cores(updates)
    assert {(core.b.shape[0], core.a.shape[1]) for core in cores} == {(min(out_dim, 9), min(in_dim, 9))}
    for i, j in np.ndindex(3, 3):
        assert cores[i].scale == updates[i].scale
        np.testing.assert_allclose(cores[i].b.T @ cores[j].b, updates[i].b.T @ updates[j].b, atol=1e-12)
        np.testing.assert_allclose(cores[i].a @ cores[j].a.T, updates[i].a @ updates[j].a.T, atol=1e-12)


def test_disjoint_adapters_tie_under_the_average_and_live_under_the_sum():
    first, second = planted([0, 1], [0, 1], [3.0, 2.0]), planted([2, 3], [2, 3], [1.0, 4.0])
    total = diagnose([adapter({"m": first}), adapter({"m": second})])["total"]
    assert total["interference"][0][1] == 0 and total["cosine"][0][1] == 0
    assert total["smallest_lambda_worst"] == pytest.approx(0.5)
    assert total["largest_library_worst"] == 1
    assert total["kept_average"] == [0.5, 0.5]  # every direction is a tie
    assert total["kept_sum"] == [1.0, 1.0]


def test_agreeing_adapters_support_a_larger_library_and_opposed_ones_none():
    update = planted([0, 1], [0, 1], [3.0, 2.0])
    agreeing = diagnose([adapter({"m": update})] * 2)["total"]
    assert agreeing["smallest_lambda_worst"] == pytest.approx(0.25)
    assert agreeing["largest_library_worst"] == 3 and agreeing["kept_average"] == [1.0, 1.0]
    opposed = diagnose([adapter({"m": update}), adapter({"m": update._replace(scale=-1.0)})])["total"]
    assert opposed["smallest_lambda_worst"] == np.inf and opposed["largest_library_worst"] == 0
    assert opposed["kept_sum"] == [0.0, 0.0]


def test_features_give_the_coverage_law():
    """Inputs at a known angle to the stored key have kappa = cos; above 1/(2 lambda) the edit decides."""
    first, second = planted([0], [0], [2.0]), planted([1], [1], [2.0])
    angle = np.array([0.2, 0.9, 1.2, 1.5])
    x = np.zeros((4, D))
    x[:, 0], x[:, 5] = np.cos(angle), np.sin(angle)
    adapters = [adapter({"m": first}), adapter({"m": second})]
    features = diagnose(adapters, {"m": x})["modules"]["m"]["features"]
    np.testing.assert_allclose(features["kappa"], [np.cos(angle), np.zeros(4)], atol=1e-12)
    assert features["covered_alone"] == [np.mean(np.cos(angle) > 0.5), 0.0]  # 2 kappa > 1
    assert features["covered_average"] == [0.0, 0.0]  # kappa > 1 is out of reach
    assert features["arrow_choice"] == [1.0, 0.0]
    half_norm = {"m": x, "m@0": 0.5 * np.eye(D)[:1], "m@1": np.eye(D)[1:2]}  # full swing 1, not 2
    features = diagnose(adapters, half_norm)["modules"]["m"]["features"]
    np.testing.assert_allclose(features["kappa"][0], 2 * np.cos(angle), atol=1e-12)
    assert features["covered_by_any"] == np.mean(2 * np.cos(angle) > 1)


def test_null_directions_are_not_directions():
    rng = np.random.default_rng(3)
    update = random_update(rng)
    padded = LowRank(
        np.pad(update.b, ((0, 0), (0, 1)), constant_values=1), np.pad(update.a, ((0, 1), (0, 0))), 1.0
    )
    u, s, v = interference.bases(LowRank(jnp.asarray(padded.b), jnp.asarray(padded.a), 1.0))
    assert s[-1] == 0 and not u[:, -1].any() and not v[:, -1].any()
    shares = interference.retained([padded, padded], 0)
    np.testing.assert_allclose(shares[:R], 2.0)
    assert np.isnan(shares[R])


def test_a_zero_module_is_reported_and_the_rest_is_as_before(tmp_path, command):
    """One adapter leaves one module untrained: what it says there is unknown, all else as without it."""
    rng = np.random.default_rng(4)
    full = [{name: random_update(rng) for name in ("m.0.q", "m.1.q")} for _ in range(2)]
    full[1]["m.1.q"] = full[1]["m.1.q"]._replace(b=np.zeros((D, R)))
    report = diagnose([adapter(modules) for modules in full])
    reference = diagnose([adapter({"m.0.q": modules["m.0.q"]}) for modules in full])
    assert report["zero"] == {"m.1.q": [1]} and reference["zero"] == {}
    np.testing.assert_array_equal(  # NaN equal to NaN
        np.array(report["modules"]["m.0.q"]["critical_lambda"]),
        np.array(reference["modules"]["m.0.q"]["critical_lambda"]),
    )
    module = report["modules"]["m.1.q"]
    assert (
        module["norm2"][1] == 0 and np.isnan(module["effective_rank"][1]) and np.isnan(module["arrow_gap"][1])
    )
    np.testing.assert_allclose(module["critical_lambda"][0], 0.5)  # nothing interferes there
    assert np.isnan(module["critical_lambda"][1]).all() and np.isnan(module["prototype_cosine"][0][1])
    total, before = report["total"], reference["total"]
    assert total["norm"][1] == before["norm"][1]
    assert total["prototype_cosine"][0][1] == before["prototype_cosine"][0][1]  # of the known modules
    assert total["smallest_lambda_worst"] == pytest.approx(max(before["smallest_lambda_worst"], 0.5))
    for key in ("cosine", "interference", "kept_average", "kept_sum", "smallest_lambda_typical"):
        assert np.isfinite(total[key]).all(), key
    assert report["warnings"][0] == "Delta W = 0 (untrained?) in 1 of 2 modules: m.1.q (adapter 2)"
    row = module_table(report).loc["m.1.q"]
    assert np.isnan(row["cos"]) and np.isnan(row["row cos"]) and np.isfinite(row["norm 1"])
    sources = []
    for i, modules in enumerate(full):
        config = {"peft_type": "LORA", "target_modules": ["q"]}
        write_adapter(tmp_path / str(i), modules, [Adapter(tmp_path, config, modules)])
        sources.append(tmp_path / str(i))
    code, out, err = command("sim.diagnose", *sources, "--out", tmp_path / "out")
    assert code == 0 and "in 1 of 2 modules: m.1.q (adapter 2)" in out, err
    assert json.loads((tmp_path / "out" / "diagnosis.json").read_text())["zero"] == {"m.1.q": [1]}


def test_modules_are_in_order_of_depth():
    assert sorted(["l.10.q", "l.9.q", "l.1.q"], key=natural) == ["l.1.q", "l.9.q", "l.10.q"]


def test_the_command_prints_and_writes(tmp_path, command):
    sources = [DATA / "equal_rank" / name for name in ("first", "second")]
    x = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    save_file({"layers.0.q_proj": x}, tmp_path / "features.safetensors")
    arguments = [*sources, "--features", tmp_path / "features.safetensors", "--out", tmp_path / "out"]
    code, out, _ = command("sim.diagnose", *arguments)
    assert code == 0
    assert "layers.0.q_proj" in out and "largest library that uniform averaging keeps: K = " in out
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    written = [f"diagnosis.{kind}" for kind in ("csv", "json", "pdf", "png")]
    assert files == [*written, "prompts.jsonl", "report.html"]
    report = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    expected = diagnose([read_adapter(source) for source in sources])
    assert report["total"]["norm"] == expected["total"]["norm"]
    assert len(report["modules"]["layers.0.q_proj"]["features"]["kappa"][0]) == 5


SEEN = """
return {
  verdict: [...document.querySelectorAll(".verdict p")].map(line => line.textContent),
  heads: [...document.querySelectorAll("h2")].map(head => head.textContent),
  rows: [...document.querySelectorAll("table")].map(table => table.tBodies[0].rows.length),
  picture: document.querySelector("figure img").naturalWidth > 0,
  fits: document.documentElement.scrollWidth <= innerWidth,
};"""


@needs_browser
def test_a_browser_shows_the_page(tmp_path, command):
    sources = [DATA / "equal_rank" / name for name in ("first", "second")]
    assert command("sim.diagnose", *sources, "--out", tmp_path)[0] == 0
    report = json.loads((tmp_path / "diagnosis.json").read_text())
    seen = run_script(tmp_path / "report.html", SEEN, tmp_path)
    assert seen["verdict"] == report["verdict"] and seen["picture"] and seen["fits"]
    assert len(seen["verdict"]) == 2
    assert seen["heads"][:3] == ["What is normal", "Why", "Adapters"] and seen["heads"][7] == "All modules"
    assert seen["rows"][-1] == len(report["modules"])


def test_the_json_repeats_nothing_that_symmetry_gives():
    """A line a module; cosines of the pairs (1, 2), (1, 3), (2, 3); six digits, the library in full."""
    rng = np.random.default_rng(3)
    report = diagnose([adapter({name: random_update(rng) for name in ("l.0.q", "l.1.q")}) for _ in range(3)])
    text = as_json(report)
    assert sum(line.startswith('"l.') for line in text.splitlines()) == 2
    read = json.loads(text)
    assert read["total"]["norm"] == report["total"]["norm"] and read["verdict"] == verdict(report)
    for name, measures in report["modules"].items():
        for key in ("row_cosines", "column_cosines"):
            expected = [measures[key][i][j] for i, j in ((0, 1), (0, 2), (1, 2))]
            np.testing.assert_allclose(read["modules"][name][key], expected, rtol=1e-5)
        np.testing.assert_allclose(read["modules"][name]["inner"], measures["inner"], rtol=1e-5)
        assert read["modules"][name]["norm2"] != measures["norm2"]


def test_the_commands_errors_are_one_line(tmp_path, command):
    first, second = (DATA / "plain" / name for name in ("first", "second"))
    untrained = shutil.copytree(first, tmp_path / "untrained")

    weights = load_file(untrained / "adapter_model.safetensors")
    save_file(
        {k: v * 0 if "lora_B" in k else v for k, v in weights.items()},
        untrained / "adapter_model.safetensors",
    )
    (tmp_path / "bad.safetensors").write_bytes(b"junk")
    save_file({"layers.9.q": np.ones((2, 12), np.float32)}, tmp_path / "other.safetensors")
    save_file({"layers.0.q_proj": np.ones((2, 5), np.float32)}, tmp_path / "narrow.safetensors")
    (tmp_path / "file").write_text("")
    out = ["--out", tmp_path / "out"]
    other, narrow = tmp_path / "other.safetensors", tmp_path / "narrow.safetensors"
    cases = [
        ([first, *out], "give two or more adapters, not 1"),
        ([first, tmp_path / "none", *out], "is not a folder"),
        ([first, untrained, *out], "has Delta W = 0 (untrained?) in all modules"),
        ([first, DATA / "rslora" / "first", *out], "differ in fan_in_fan_out"),
        ([first, second, "--features", tmp_path / "bad.safetensors", *out], "not a whole safetensors file"),
        ([first, second, "--features", tmp_path / "no", *out], "No such file"),
        (
            [first, second, "--features", other, *out],
            "'layers.9.q' fit no adapted module",
        ),
        (
            [first, second, "--features", narrow, *out],
            "must be finite, (tokens, 12)",
        ),
        ([first, second, "--out", tmp_path / "file"], "is a file; give a folder"),
    ]
    for arguments, message in cases:
        code, _, err = command("sim.diagnose", *arguments)
        lines = err.rpartition("\r")[2].strip().split("\n")  # a bar, shown on a busy machine, is wiped
        assert code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], err
