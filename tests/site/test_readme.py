"""README.md shows what code and records say: the example's tokens, the costs, all extras."""

import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from sim.site import readme

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_page_is_what_the_command_writes(tmp_path):
    pages = {
        name: (ROOT / name).read_text() for name in ("README.md", "theory/README.md", "sim/bench/README.md")
    }
    for name, page in pages.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(page)
    for folder in ("experiments", "costs", "bench"):
        if (ROOT / "figures" / folder).exists():
            (tmp_path / "figures").mkdir(exist_ok=True)
            (tmp_path / "figures" / folder).symlink_to(ROOT / "figures" / folder)
    readme.write(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in pages} == pages
    assert (tmp_path / "figures/example.svg").read_text() == (ROOT / "figures/example.svg").read_text()


def test_the_example_is_one_question_and_what_it_needs():
    sequences = {name: words for name, (words, _) in readme.example().items()}
    x, r1, _, bridge = sequences["hop1"]
    again, r2, _, z = sequences["hop2"]
    assert bridge == again and len({x, bridge, z}) == 3 and (r1, r2) == ("r1", "r2")
    assert sequences["direct"] == [x, r1, r2, "ANSWER", z]
    assert sequences["cot"] == [x, r1, r2, "THINK", *sequences["hop1"], "SEP", *sequences["hop2"]]


def test_the_picture_has_every_token_in_its_owners_colour():
    picture = ElementTree.fromstring(readme.picture())
    space = "{http://www.w3.org/2000/svg}"
    tokens = [text.text for text in picture.iter(f"{space}text") if text.get("font-family") == "monospace"]
    assert tokens == [word for words, _ in readme.example().values() for word in words]
    colours = [r.get("fill") for r in picture.iter(f"{space}rect") if r.get("fill") in readme.ADAPTERS]
    owners = [owner for _, probe in readme.example().values() for owner in probe.layout.owner]
    assert colours == [readme.ADAPTERS[owner] for owner in owners]
    drawn = [float(r.get("x", 0)) + float(r.get("width")) for r in picture.iter(f"{space}rect")]
    assert max(drawn) <= 840


def test_costs_are_the_records_and_nothing_else(tmp_path):
    run = tmp_path / "figures" / "experiments" / "rank"
    run.mkdir(parents=True)
    manifest = {
        "command": "python -m sim.sweep names rank --profile paper --out x/y",
        "config": {"experiment": "rank", "profile": "paper"},
        "device": "2 x cpu",
        "seconds": 41.7,
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert readme.costs(tmp_path).split("\n") == [
        "| Job | On | Seconds, as it was run |",
        "| --- | --- | --- |",
        "| `python -m sim.sweep rank --profile paper` | 2 cores | 42 |",
    ]
    states = [
        {"job": "sim.sweep --rank 4", "state": "cold", "seconds": 100.2, "peak_mb": 900.0},
        {"job": "sim.sweep --rank 4", "state": "warm", "seconds": 30.9, "peak_mb": 800.0},
        {"job": "sim.sweep --rank 4", "state": "start", "seconds": 2.0, "peak_mb": 950.0},
    ]
    (tmp_path / "figures" / "costs").mkdir()
    record = {"machine": {"device": "1 x H100"}, "rows": states}
    (tmp_path / "figures" / "costs" / "sweep.json").write_text(json.dumps(record))
    assert readme.costs(tmp_path).split("\n") == [
        "| Job | On | Seconds, cold | Seconds, warm | Seconds, as it was run | Memory |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `python -m sim.sweep --rank 4` | 1 x H100 | 100 | 31 |  | 900 MB |",
        "| `python -m sim.sweep rank --profile paper` | 2 cores |  |  | 42 |  |",
    ]


def test_the_page_opens_with_ten_lines_and_their_output_then_the_picture():
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", PAGE, re.S)[:2]
    assert code == readme.QUICKSTART and len([line for line in code.split("\n") if line]) <= 10
    merge, summary, *_, last = (
        printed.split("\n", 2)[0],
        printed.split("\n")[2],
        printed.strip().split("\n")[-1],
    )
    assert merge.startswith("Merge them by ") and summary.startswith(
        "average of 2 adapters: 210 modules, rank 2"
    )
    share = 1 - stats.beta.cdf(1 / 2, 20 / 2, 12 / 2)  # theory, section 6a
    assert last == f"rank 20 overwrites {share:.2f} of 32 facts"
    assert PAGE.index("![") > PAGE.index(last) and len(PAGE.splitlines()) <= 226


def test_recipes_are_their_tables_in_three_digits(tmp_path):
    (tmp_path / "figures/bench").mkdir(parents=True)
    for name in ("steps", "bases"):
        (tmp_path / f"figures/bench/{name}.csv").write_text(
            "recipe,rate,low\nAdam,0.002,35.6667\nMuon,0.01,\n"
        )
    table = [
        "| `recipe` | `rate` | `low` |",
        "| --- | --- | --- |",
        "| Adam | 0.002 | 35.7 |",
        "| Muon | 0.01 |  |",
    ]
    assert readme.recipes(tmp_path) == {name: "\n".join(table) for name in ("steps", "bases")}


def test_a_lost_marker_is_an_error():
    with pytest.raises(ValueError, match=r"A\.md must hold <!-- example: "):
        readme.filled("no markers", {"example": "x"}, "A.md")


def test_every_extra_is_explained():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = PAGE.split("| Extra | For |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(extras)


def test_it_keeps_two_commands_to_set_up_one_job_and_one_test():
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    assert [len(block.strip().split("\n")) for block in blocks] == [2, 1, 1]
    assert "python -m sim.sweep --rank 4" in blocks[1] and "python -m pytest" in blocks[2]


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / target).exists(), target
