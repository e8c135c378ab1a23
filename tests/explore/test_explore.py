"""The explorer against ``theory``: its sliders in a real browser, its formulas in node, its Python lines."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from browser import needs_browser, run_script

from sim.explore.page import SLIDERS, numbers, page, random_settings
from sim.lab.figure import committed
from theory import coverage, starvation

COUNT, MOVES = 400, 120
TIE = {
    "lam": 0.5,
    "overlap": 1,
    "rank": 8,
    "facts": 8,
    "adapters": 2,
    "margin": 1,
    "swing": 2,
    "shared": False,
}
EDGES = [
    TIE,
    TIE | {"shared": True},
    TIE | {"overlap": 0},
    TIE | {"rank": 1, "shared": True},
    TIE | {"facts": 1, "rank": 1},
]
SETTINGS = EDGES + random_settings(COUNT, seed=2)
EXACT = ("decides", "library", "critical")

MOVED = """
const moves = [];
for (const wanted of %s) {
  inputs.facts.value = wanted.facts;
  inputs.facts.dispatchEvent(new Event("input"));  // facts first: they are the most that rank can be
  for (const name in inputs) inputs[name].value = wanted[name];
  byId("shared").checked = wanted.shared;
  inputs.lam.dispatchEvent(new Event("input"));
  const point = byId("point"), box = byId("verdict");
  moves.push({
    setting: setting(), numbers: evaluate(setting()), python: byId("python").textContent,
    verdict: [...box.children].map(line => line.textContent), colour: box.style.borderColor,
    point: [point.cx.baseVal.value, point.cy.baseVal.value],
  });
}
return { moves, check: byId("check").textContent, wide: document.documentElement.scrollWidth - innerWidth };
"""


def same(values, setting):
    """The page's numbers of a setting are theory's."""
    wanted = numbers(setting)
    assert set(values) == set(wanted)
    for name, value in wanted.items():
        if value is None:
            assert values[name] is None, (name, setting)
        else:
            atol = 0 if name in EXACT else 1e-11
            np.testing.assert_allclose(
                values[name], value, rtol=1e-12, atol=atol, err_msg=f"{name} {setting}"
            )


def test_theory_says_the_same_one_function_at_a_time():
    """What the page is held to, by hand: an exact overwrite at half rank, summed and averaged over three."""
    setting = {"lam": 1.0, "overlap": 0.8, "rank": 8, "facts": 16, "adapters": 3, "margin": 1.0, "swing": 4.0}
    values = numbers(setting | {"shared": False})
    assert values["share"] == 0.5 and values["arrives"] == pytest.approx(1.6) and values["decides"] is True
    assert values["critical"] == pytest.approx(1 / 1.6) and values["library"] == 1
    assert values["kept"] == pytest.approx(starvation.overwrite_recall(16, 8, 1.6))
    assert values["kept_average"] == pytest.approx(starvation.overwrite_recall(16, 8, 1.6 / 3))
    assert numbers(setting | {"shared": True})["kept"] == starvation.shared_overwrite_recall(16, 8, 1.6)
    assert numbers(setting | {"overlap": 0.0, "shared": False})["critical"] is None


def test_the_settings_lie_on_the_sliders():
    for name, (_, low, high, step, start) in SLIDERS.items():
        values = np.array([setting[name] for setting in SETTINGS])
        assert low <= start <= high and (values >= low).all() and (values <= high + 1e-9).all()
        np.testing.assert_allclose((values - low) / step, np.round((values - low) / step), atol=1e-6)
    assert sum(setting["rank"] < setting["facts"] for setting in SETTINGS) > COUNT / 4


@pytest.mark.slow
@needs_browser
def test_its_sliders_give_theorys_numbers(tmp_path):
    place = tmp_path / "explorer.html"
    place.write_text(page())
    answer = run_script(place, MOVED % json.dumps(SETTINGS[:MOVES]), tmp_path)
    narrow = run_script(place, MOVED % json.dumps(SETTINGS[:3]), tmp_path, width=500)
    assert "they agree" in answer["check"] and answer["wide"] <= 0 and narrow["wide"] <= 0
    clamped = [setting | {"rank": min(setting["rank"], setting["facts"])} for setting in SETTINGS[:MOVES]]
    assert [one["setting"] for one in answer["moves"]] == clamped
    for one in answer["moves"]:
        setting, page_numbers = one["setting"], one["numbers"]
        same(page_numbers, setting)
        decides = one["verdict"][0] == "Kept"
        assert decides == numbers(setting)["decides"]
        assert one["colour"] == ("rgb(0, 114, 178)" if decides else "rgb(213, 94, 0)")
        assert f"of {setting['facts']} edits " in one["verdict"][2]
    across = np.array([[one["setting"]["lam"], one["point"][0]] for one in answer["moves"]])
    up = np.array([[numbers(one["setting"])["share"], one["point"][1]] for one in answer["moves"]])
    for points, sign in ((across, 1), (up, -1)):  # the circle stands where its axes say
        assert np.corrcoef(points.T)[0, 1] == pytest.approx(sign, abs=1e-6)
    lines_are_true(answer["moves"][:60])


def lines_are_true(answers):
    """The Python beside the numbers runs and gives them."""
    for one in answers:
        head, *lines = one["python"].split("\n")
        assert head == "from theory import coverage, starvation" and len(lines) == 5
        for line in lines:
            code, _, value = line.partition("  # ")
            result = eval(code, {"coverage": coverage, "starvation": starvation})
            assert float(result) == pytest.approx(
                float(eval(value.replace("inf", "1e999"))), rel=1e-9, abs=1e-11
            )


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here to run the page's formulas")
def test_its_formulas_give_theorys_numbers(tmp_path):
    laws = re.search(r'<script id="laws">(.*?)</script>', page(), re.S)[1]
    script = tmp_path / "laws.js"
    script.write_text(f"{laws}\nconsole.log(JSON.stringify({json.dumps(SETTINGS)}.map(evaluate)));")
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60)
    for page_numbers, setting in zip(json.loads(done.stdout), SETTINGS, strict=True):
        same(page_numbers, setting)


def test_the_page_is_one_file(command, tmp_path):
    code, printed, err = command("sim.explore", "--out", tmp_path / "page.html")
    assert (code, err) == (0, "") and str(tmp_path / "page.html") in printed
    text = (tmp_path / "page.html").read_text()
    assert "http" not in text and not re.search(r'\b(src|href)="', text.replace('href="${heat(s)}"', ""))


def test_the_committed_page_is_what_the_command_writes():
    """All of it but the last digits of theory's numbers, which are the machine's."""
    (old, old_data), (new, new_data) = map(parts, ((committed() / "explorer.html").read_text(), page()))
    assert old == new and old_data["sliders"] == new_data["sliders"]
    for one, other in zip(old_data["checked"], new_data["checked"], strict=True):
        assert one["setting"] == other["setting"]
        same(one["numbers"], other["setting"])


def parts(text):
    """The page without its data, and the data."""
    data = re.search(r"const data = (.*);\n", text)
    return text.replace(data[1], ""), json.loads(data[1])
