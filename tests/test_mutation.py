"""What mutation.py makes of a small module, and that the files named in mutation.toml exist."""

import mutation
import pytest

MODULE = '''"""A text with 1 number."""
LIMIT = 3


def share(part: list[int], i, total=0.5):
    """Part of the total."""
    if not part[i] > LIMIT and total < 1:
        raise ValueError(f"{i + 1}")
    return max(total, i) * -part[i].max(strict=True)
'''


def test_the_faults_of_a_small_module():
    lines = MODULE.splitlines()
    changes = {}
    for address, text in mutation.mutants(MODULE).items():
        ((number, line),) = [(n, x) for n, x in enumerate(text.splitlines()) if x != lines[n]]
        changes[address] = number + 1, line.strip()
    condition, value = lines[6].strip(), lines[8].strip()
    assert changes == {
        ",constant,1": (2, "LIMIT = (6)"),
        "share,constant,1": (5, lines[4].replace("0.5", "(1.5)")),
        "share,and/or,1": (7, "if (not part[i] > LIMIT or total < 1):"),
        "share,sign or not,1": (7, condition.replace("not part[i] > LIMIT", "(part[i] > LIMIT)")),
        "share,comparison,1": (7, condition.replace("part[i] > LIMIT", "(part[i] <= LIMIT)")),
        "share,edge,1": (7, condition.replace("part[i] > LIMIT", "(part[i] >= LIMIT)")),
        "share,index,1": (7, condition.replace("part[i]", "(part[0])")),
        "share,comparison,2": (7, condition.replace("total < 1", "(total >= 1)")),
        "share,edge,2": (7, condition.replace("total < 1", "(total <= 1)")),
        "share,constant,2": (7, condition.replace("1", "(2)")),
        "share,arithmetic,1": (9, "return (max(total, i) / -part[i].max(strict=True))"),
        "share,left operand,1": (9, "return (max(total, i))"),
        "share,arguments,1": (9, value.replace("max(total, i)", "(max(i, total))")),
        "share,sign or not,2": (9, value.replace("-part[i].max(strict=True)", "(part[i].max(strict=True))")),
        "share,name,1": (9, value.replace("part[i].max", "(part[i].min)")),
        "share,index,2": (9, value.replace("part[i]", "(part[0])")),
    }


@pytest.mark.parametrize(("module", "tests"), mutation.CONFIG["tests"].items())
def test_every_module_and_its_tests_exist(module, tests):
    assert all((mutation.ROOT / file.split("::")[0]).is_file() for file in (module, *tests))


def test_every_accepted_survivor_has_a_reason():
    assert all(
        row.count(",") == 3 and len(reason) > 20 for row, reason in mutation.CONFIG["accepted"].items()
    )
