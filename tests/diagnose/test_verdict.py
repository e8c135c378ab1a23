"""The verdict: the window against brute force, planted libraries, doubts said first, tables and page."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from sim.diagnose import diagnose
from sim.diagnose.draw import draw, labels
from sim.diagnose.page import as_text
from sim.diagnose.recommend import EVERY, TYPICAL, Directions, gathered, recommend, window
from sim.diagnose.tables import kind, kind_table, module_table, worst_modules
from sim.diagnose.verdict import reasons, verdict
from sim.merge import Adapter, write_adapter
from sim.model.routing import gate, prototypes
from theory import interference
from theory.lowrank import LowRank, dense

D = 12


def adapter(modules, name="x", **config):
    return Adapter(Path(name), config, modules)


def update(*triplets, scale=1.0):
    """Delta W = scale sum_k s_k u_k v_k^T from (s, u, v); u and v number a unit vector or are vectors."""
    axis = np.eye(D)
    u, v = ([axis[t[side]] if isinstance(t[side], int) else t[side] for t in triplets] for side in (1, 2))
    return LowRank(np.stack([t[0] * x for t, x in zip(triplets, u, strict=True)], axis=1), np.stack(v), scale)


def diagnose_updates(*updates):
    report = diagnose([adapter({"m": one}, str(i)) for i, one in enumerate(updates)])
    return report["total"]["recommendation"], reasons(report)


DISJOINT = (update((3.0, 0, 0), (2.0, 1, 1)), update((1.0, 2, 2), (4.0, 3, 3)))
TILTED = np.eye(D)[0] * 0.6 + np.eye(D)[1] * 0.8


def test_adapters_that_do_not_meet_are_summed():
    advice, lines = diagnose_updates(*DISJOINT)
    assert (advice["action"], advice["low"], advice["high"], advice["lam"]) == ("sum", 0.5, 1.0, 0.75)
    assert advice["keeps"] == EVERY and advice["kept"] == advice["certain"] == advice["routed"] == [1.0, 1.0]
    assert lines[0] == (
        "Recommendation (weights alone): merge by sum, --weight 0.75 0.75; lambda in (0.5, 1] keeps every "
        "direction and overdoes none"
    )
    assert lines[1].startswith("Lost: up to 0% (adapter 1) of the adapters' energy at lambda = 0.75, up to")
    assert (
        lines[2].startswith("Certain with: python -m sim.predict with these adapters")
        and "--features" in lines[2]
    )
    assert len(lines) == 3
    advice, _ = diagnose_updates(
        *DISJOINT, update((2.0, 4, 4))
    )  # the average of three is below the range, not at its end
    assert (advice["action"], advice["low"], advice["lam"]) == ("sum", 0.5, 0.75)


def test_adapters_that_agree_are_averaged():
    advice, lines = diagnose_updates(*[DISJOINT[0]] * 3)
    assert advice["action"] == "average" and advice["lam"] == 1 / 3 and advice["kept"] == [1.0] * 3
    assert (advice["low"], advice["high"]) == (pytest.approx(1 / 6), pytest.approx(1 / 3))
    assert "merge by average, lambda = 1/3; lambda in (0.167, 0.333] keeps every direction" in lines[0]
    assert advice["routed"] == [0.5] * 3  # ties


def test_a_weak_direction_that_is_written_over_costs_its_energy_and_not_the_merge():
    """Adapter 1's direction of energy 1 out of 10 is opposed by a stronger one; the rest do not meet."""
    advice, lines = diagnose_updates(update((3.0, 0, 0), (1.0, 1, 1)), update((-2.0, 1, 1), (4.0, 3, 3)))
    assert (advice["action"], advice["keeps"]) == ("sum", TYPICAL)
    assert (advice["low"], advice["high"]) == (0.5, 1.0)
    np.testing.assert_allclose(advice["kept"], [9 / 10, 16 / 20])  # g = 1 - 2 and 1 - 1/2: lambda_c inf and 1
    assert lines[1].startswith("Lost: up to 20% (adapter 2)")


def test_adapters_that_oppose_are_routed_if_they_can_be_told_apart():
    """Each takes 0.6 from the other, so lambda_c = 1/(2 * 0.4); |Delta W_j v_i| is 0.6 of s_i."""
    advice, lines = diagnose_updates(update((1.0, 0, 0)), update((-1.0, 0, TILTED)))
    assert advice["action"] == "route" and advice["routed"] == [1.0, 1.0]
    assert advice["low"] == pytest.approx(1.25) and advice["high"] == 1.0 and advice["kept"] == [0.0, 0.0]
    assert lines[0].startswith(
        "Recommendation (weights alone): do not merge: route, by |Delta W x| (SpectR); no lambda keeps"
    )
    assert "one needs more than 1.25, one bears at most 1" in lines[0]
    assert (
        "by the average up to 100% (adapter 1)" in lines[1] and "by routing up to 0% (adapter 1)" in lines[1]
    )


def test_adapters_that_oppose_on_the_same_inputs_are_not_reused():
    advice, lines = diagnose_updates(update((1.0, 0, 0)), update((-1.0, 0, 0)))
    assert advice["certain"] == [0.0, 0.0]
    assert advice["action"] == "train" and advice["routed"] == [0.5, 0.5]
    assert "train one adapter on all the data" in lines[0] and "needs more than infinity" in lines[0]


def random_library(rng, count):
    return [LowRank(rng.normal(size=(D, 3)), rng.normal(size=(3, D)), 1.0) for _ in range(count)]


def test_the_window_is_where_no_direction_is_lost_or_overdone():
    """By the definition: lambda g_k, the share of a full swing, in (1/2, 1] for all k; lambda at most 1."""
    rng = np.random.default_rng(0)
    seen = set()
    for trial in range(40):
        common = update((4.0, 0, 0), (3.0, 1, 1), (5.0, 2, 2))
        parts = [
            LowRank(common.b + trial / 60 * p.b, common.a + trial / 60 * p.a, 1.0)
            for p in random_library(rng, 2)
        ]
        total = sum(np.asarray(dense(part)) for part in parts)
        gains = []
        for part in parts:
            u, s, vt = np.linalg.svd(np.asarray(dense(part)))
            gains += [u[:, k] @ total @ vt[k] / s[k] for k in range(3)]
        gains = np.array(gains)
        library = gathered([diagnose([adapter({"m": part}) for part in parts])["modules"]["m"]])
        low, high = window([d.smallest() for d in library], [d.largest() for d in library])
        for lam in np.linspace(0.01, 1.2, 120):
            right = bool(np.all((lam * gains > 0.5) & (lam * gains <= 1)) and lam <= 1)
            seen.add(right)
            assert right == (low < lam <= high), (trial, lam)
    assert seen == {True, False}


def test_no_third_answer_wins_where_what_is_written_beside_is_small():
    """Logits as they are: base i_old, the merge lambda (g R + sqrt 2 p w), and the worst w there is.

    The worst puts weight on one third answer and takes it from new and old alike; random ones do no more.
    """
    rng, n, lam = np.random.default_rng(4), 7, 0.8
    seen = set()
    for gain, p in rng.uniform(0.7, 1.3, size=(60, 2)) * (1.0, 0.6):
        change = np.zeros(n)
        change[0], change[1] = 1, -1
        worst = np.zeros(n)
        worst[:2], worst[2] = -1 / 6**0.5, (2 / 3) ** 0.5
        others = rng.normal(size=(200, n))
        others[:, :2] = others[:, :2].mean(axis=1, keepdims=True)
        w = np.concatenate([worst[None], others / np.linalg.norm(others, axis=1, keepdims=True)])
        np.testing.assert_allclose(
            [np.linalg.norm(w, axis=1).min(), np.abs(w @ change).max()], [1, 0], atol=1e-12
        )
        logits = np.eye(n)[1] + lam * (gain * change + 2**0.5 * p * w)
        third = logits[:, 2:].max(axis=1) >= logits[:, 0]
        directions = Directions(*(np.array([x]) for x in (1 / (2 * gain), p, 0.0, 1.0)))
        assert (directions.certain(1.0) == 1.0) == (not third.any()) and third.any() == third[0]
        seen.add(bool(third[0]))
    assert seen == {True, False}


def test_what_is_written_beside_against_dense_algebra():
    library = random_library(np.random.default_rng(5), 3)
    total = sum(np.asarray(dense(one)) for one in library)
    for i, one in enumerate(library):
        u, s, vt = np.linalg.svd(np.asarray(dense(one)))
        expected = [
            np.linalg.norm((np.eye(D) - np.outer(u[:, k], u[:, k])) @ total @ vt[k]) / s[k] for k in range(3)
        ]
        np.testing.assert_allclose(interference.leakage(library, i), expected, rtol=1e-9)


def test_the_rival_is_whom_the_router_would_choose():
    library = random_library(np.random.default_rng(1), 3)
    rows = prototypes("spectr", library)
    chosen = set()
    for i, one in enumerate(library):
        _, _, v = interference.bases(one)
        best = np.argmax(np.asarray(gate(v.T, rows, top_k=1)), axis=-1)
        rival = np.asarray(interference.rival(library, i))
        np.testing.assert_array_equal(best == i, rival < 1)
        chosen |= set(best == i)
    assert chosen == {True, False}


def test_what_is_doubtful_is_said_before_anything_else():
    rng = np.random.default_rng(2)
    first, second = random_library(rng, 2)
    names = ("org/base", "org/base", "org/other", "org/base", "org/base")
    tiny, noise = second._replace(scale=1e-4), 1 + 2.0**-10 * rng.normal(size=first.b.shape)
    updates = (first, second, tiny, first._replace(b=first.b * noise), first._replace(scale=-2.0))
    adapters = [
        adapter({"m": one}, str(i), base_model_name_or_path=name)
        for i, (one, name) in enumerate(zip(updates, names, strict=True))
    ]
    report = diagnose(adapters)
    lines = report["warnings"]
    assert lines[0].startswith("the adapters name different base models (org/base, org/other)")
    assert lines[1].startswith("adapter 3 is near zero: |Delta W| = ") and "is it trained?" in lines[1]
    assert lines[2:] == [
        "adapters 1 and 4 are the same, to the rounding of bfloat16",
        "adapters 1 and 5 are opposites but for a factor 2, to the rounding of bfloat16",
        "adapters 2 and 3 are the same but for a factor 0.0001, to the rounding of bfloat16",
        "adapters 4 and 5 are opposites but for a factor 2, to the rounding of bfloat16",
    ]
    assert verdict(report)[0].startswith("Not sure: the adapters name different base models (org/base, ")
    assert as_text(report).startswith("\n".join([*verdict(report), "", *lines]) + "\n\n")
    clean = diagnose([adapter({"m": one}) for one in (first, second)])
    assert clean["warnings"] == [] and "\n\nRecommendation (weights alone): " in as_text(clean)


def test_adapters_of_equal_seeds_are_said_to_be():
    """Trained from one A: it moved a little, and B is its adapter's own."""
    rng = np.random.default_rng(5)
    start, other = (rng.normal(size=(3, D)) for _ in range(2))

    def trained(a):
        return {
            f"m.{n}": LowRank(rng.normal(size=(D, 3)), a + 0.05 * rng.normal(size=a.shape), 1.0) for n in "qv"
        }

    library = [adapter(trained(a), name) for a, name in ((start, "1"), (start, "2"), (other, "3"))]
    lines = diagnose(library)["warnings"]
    assert len(lines) == 1
    assert lines[0].startswith("adapters 1 and 2 began from the same random A (cosine 0.99")
    assert diagnose(library[1:])["warnings"] == []


def test_the_files_never_claim_answers():
    lines = diagnose_updates(*DISJOINT)[1]
    assert "(weights alone)" in lines[0] and "how many of these are lost is not in the files" in lines[1]
    assert "python -m sim.predict" in lines[2]


def test_a_module_that_one_adapter_does_not_have_counts_as_zero():
    first, second = DISJOINT
    report = diagnose([adapter({"a": first, "b": second}, "one"), adapter({"a": second}, "two")])
    zero = LowRank(second.b * 0, second.a * 0, 1.0)
    filled = diagnose([adapter({"a": first, "b": second}), adapter({"a": second, "b": zero})])
    assert report["warnings"] == ["note: two: does not adapt b, which others do: taken as Delta W = 0"]
    assert filled["warnings"] == ["Delta W = 0 (untrained?) in 1 of 2 modules: b (adapter 2)"]
    assert report["total"] == filled["total"] and report["zero"] == filled["zero"] == {"b": [1]}


def test_adapters_without_a_common_module_are_named_and_the_rest_is_measured():
    """1 and 2 never meet, 3 meets both: the loss is that of the pairs that do."""
    first, second = DISJOINT
    third = {"a": first._replace(scale=-0.5), "b": second}
    report = diagnose([adapter({"a": first}, "1"), adapter({"b": second}, "2"), adapter(third, "3")])
    assert report["disjoint"] == [[0, 1]]
    assert report["warnings"][0].startswith("adapters 1 and 2 change no module in common: nothing of theirs")
    assert re.match(r"Lost: .*up to \d+%", reasons(report)[1])
    disjoint = diagnose([adapter({"a": first}, "1"), adapter({"b": second}, "2")])
    assert reasons(disjoint)[1].startswith("Lost: not known: no two adapters change one module, so that none")
    assert diagnose([adapter({"a": first})] * 2)["disjoint"] == []


def many(layers, count):
    rng = np.random.default_rng(3)
    kinds = ("self_attn.q_proj", "self_attn.v_proj", "mlp.experts.0.w1", "mlp.experts.1.w1")
    names = [f"model.layers.{layer}.{part}" for layer in range(layers) for part in kinds]
    return [
        adapter({name: random_library(rng, 1)[0] for name in names}, f"runs/{i}/best") for i in range(count)
    ]


KINDS = {
    "model.layers.10.q4": "model.layers.*.q4",
    "h.0.mlp.experts.12": "h.*.mlp.experts.*",
    "h.0.experts.base_layer[31]": "h.*.experts.base_layer[*]",
    "0.1.q2.w": "*.*.q2.w",
}


def test_the_short_tables_are_the_long_one_summarised():
    report = diagnose(many(4, 2))
    table = module_table(report)
    kinds = kind_table(table)
    assert list(kinds.index) == ["mlp.experts.*.w1", "self_attn.q_proj", "self_attn.v_proj"]
    assert list(kinds["", "modules"]) == [8, 4, 4]
    rows = table[[name.endswith("q_proj") for name in table.index]]
    for column in ("cos", "row cos", "interf.", "typ. lambda"):
        assert kinds.loc["self_attn.q_proj", (column, "worst")] == rows[column].max()
        assert kinds.loc["self_attn.q_proj", (column, "median")] == rows[column].median()
    worst = worst_modules(table)
    assert len(worst) == 10 and not any(column.startswith("norm") for column in worst)
    assert worst["typ. lambda"].min() >= table.drop(worst.index)["typ. lambda"].max()
    for name, expected in KINDS.items():
        assert kind(name) == expected


@pytest.mark.slow
def test_ten_adapters_stay_readable():
    report = diagnose(many(8, 10))
    names = [text.get_text() for text in draw(report).axes[0].get_legend().get_texts()]
    assert names == labels([f"runs/{i}/best" for i in range(10)])
    assert names[0] == "1 = 0/best" and names[9] == "10 = 9/best"  # "best" alone would not do
    x = draw(report).axes[0].lines[0].get_xdata()
    assert len(x) == 8  # layers, not the 32 modules
    part = next(part for part in as_text(report).split("\n\n") if part.startswith("1 = "))
    assert max(map(len, part.split("\n"))) <= 110


def test_the_command_writes_a_table_and_a_page_that_needs_no_other_file(tmp_path, command):
    sources = []
    for i, one in enumerate(DISJOINT):
        source = tmp_path / f"<{i}>"
        write_adapter(
            source, {"l.0.q": one}, [adapter({"l.0.q": one}, target_modules=["q"], peft_type="LORA")]
        )
        sources.append(source)
    save_file({"l.0.q": np.eye(D, dtype=np.float32)}, tmp_path / "x.safetensors")
    out = tmp_path / "out"
    code, printed, err = command(
        "sim.diagnose", *sources, "--features", tmp_path / "x.safetensors", "--out", out
    )
    assert code == 0, err
    weights = "--weight 0.75 0.75"
    assert printed.startswith(
        "Merge them by sum, each at 0.75, if runs agree. What is kept the files cannot "
    )
    assert f"\n\nRecommendation (weights alone): merge by sum, {weights}; " in printed
    assert "lets the average decide 0% of tokens (median of 1 modules)" in printed
    report = json.loads((out / "diagnosis.json").read_text())
    assert report["verdict"] == printed.split("\n")[:2] and report["warnings"] == []
    table = pd.read_csv(out / "diagnosis.csv", index_col="module")
    assert list(table.index) == ["l.0.q"] and table.loc["l.0.q", "norm 1"] == pytest.approx(13**0.5)
    html = (out / "report.html").read_text()
    assert "1 = &lt;0&gt;" in html and "<0>" not in html
    assert report["verdict"][0] in html and "<td>l.0.q</td>" in html
    links = re.findall(r'(?:src|href)="([^"]{5})', html)
    assert links == ["data:"] and "http" not in html


def test_recommend_needs_no_report():
    report = diagnose([adapter({"m": one}) for one in DISJOINT])
    assert recommend(gathered(list(report["modules"].values()))).action == "sum"
