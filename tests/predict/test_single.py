"""One adapter on its base: what is said of it, and the folded base against one folded by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sim.forecast.outcomes import of_leads
from sim.forecast.search import Objective
from sim.hf.prompts import Prompt
from sim.hf.tokens import Question
from sim.predict.single import Fold, verdict_of_one
from sim.predict.tables import Results

sys.path.insert(0, str(Path(__file__).parents[1] / "hf"))

LAMS = np.array([[0.0], [0.5], [1.0]])


def results(leads, groups, best):
    """One adapter at 0, 0.5 and 1 with these leads (3, P)."""
    prompts = tuple(Prompt(f"p{i}", "a", group, i + 1) for i, group in enumerate(groups))
    outcomes = of_leads(np.array(leads, float))
    asks = tuple(Question((1, 2), 1, False) for _ in groups)
    objective = Objective("mean", {})
    return Results(("A",), prompts, asks, LAMS, (0, 1, 2), outcomes, outcomes.lead, objective, None, best, 0)


def test_what_is_gained_lost_and_changed_by_folding():
    groups = ["mine", "mine", "untouched", "untouched", "untouched"]
    leads = [[-1, -1, 1, 1, -1], [1, -1, 1, 1, -1], [1, 1, 1, -1, 1]]
    fold = Fold(np.array([1, -1, 1, -1, 1]), {"q": 0.5, "k": 0.1, "v": 0.02})
    lines = verdict_of_one(results(leads, groups, 1), fold)
    assert lines[0].startswith("The adapter at 1: mine 1.00 [") and "untouched 0.67 [" in lines[0]
    assert "; base: mine 0.00 [" in lines[0]
    assert lines[1].startswith(
        "The base's own abilities: of 2 prompts of untouched that the base answers 1 are"
    )
    assert "(50% [" in lines[1]
    assert "mine 0.50" in lines[2] and "loses 10% of a module's update (median), at most 50% (q)" in lines[2]
    assert "1 of 5 answers turn right or wrong by it; fold in float32, or leave it unfolded" in lines[2]
    assert lines[3] == "Recommendation: strength 0.5: score 0.58 (mean), measured"
    assert lines[4] == "Next: python -m sim.merge A --method sum --weight 0.5 --out merged"


def test_without_prompts_of_other_things_it_asks_for_them():
    lines = verdict_of_one(results([[1, -1], [1, 1], [1, 1]], ["mine", "mine"], 2), None)
    assert "of 1 prompts of mine that the base answers 0 are lost" in lines[1]
    assert "add prompts of group 'untouched'" in lines[1] and len(lines) == 4
    assert lines[3].startswith("Next: python -m sim.merge A --check MERGED")
    zero = verdict_of_one(results([[1, 1], [1, -1], [1, -1]], ["mine", "mine"], 0), None)
    assert "leave the adapter away" in zero[2]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    for package in ("torch", "transformers", "peft"):
        pytest.importorskip(package)
    import small

    folder = small.write(tmp_path_factory.mktemp("single"), "llama")
    lines = [{"prompt": f"w{i} w{i + 1}", "answer": f" w{i + 3}", "group": "untouched"} for i in range(9)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.mark.slow
def test_the_folded_base_is_the_one_folded_by_hand(scene, tmp_path):
    import torch
    import transformers
    from safetensors.torch import load_file

    from sim.predict import predict_merges

    prediction = predict_merges(
        scene / "a", base=scene / "base", prompts=scene / "prompts.jsonl", out=tmp_path / "run"
    )
    tensors, factors = (
        load_file(scene / "base/model.safetensors"),
        load_file(scene / "a/adapter_model.safetensors"),
    )
    losses = {}
    for key, a in factors.items():
        if ".lora_A." in key:
            name = key.removeprefix("base_model.model.").replace(".lora_A", "")
            delta = 5 / 3 * factors[key.replace("lora_A", "lora_B")] @ a
            total = (tensors[name] + delta).double()
            tensors[name] = total.to(torch.bfloat16).float()
            losses[name.removesuffix(".weight")] = float((tensors[name] - total).norm() / delta.norm())
    by_hand = transformers.AutoModelForCausalLM.from_pretrained(scene / "base")
    by_hand.load_state_dict(tensors)
    items = prediction.results.questions
    with torch.inference_mode():
        for item, lead in zip(items, prediction.fold.lead, strict=True):
            logits = by_hand(torch.tensor([item.tokens])).logits[0, item.start - 1 : -1].double()
            target = torch.tensor(item.answer)
            right = logits.gather(1, target[:, None])[:, 0]
            others = logits.scatter(1, target[:, None], -torch.inf).amax(1)
            assert lead == pytest.approx(float((right - others).min()), abs=1e-4)
    assert prediction.fold.losses == pytest.approx(losses, rel=1e-4)
    again = predict_merges(
        scene / "a", base=scene / "base", prompts=scene / "prompts.jsonl", out=tmp_path / "run"
    )
    np.testing.assert_array_equal(again.fold.lead, prediction.fold.lead)
    assert "Folded into the base in bfloat16: untouched " in str(prediction)
    assert (tmp_path / "run" / "report.html").exists()
