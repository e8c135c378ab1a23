"""Registries: names in order, one line for an unknown name, discovery of a package's modules."""

import sys

import pytest

from sim.lab.registry import Registry, unknown


@pytest.fixture
def fruits():
    fruits = Registry("fruit")
    fruits.add("pear", 1)
    fruits.add("apple", 2)
    return fruits


def test_records_come_in_the_order_they_were_added(fruits):
    assert list(fruits) == list(fruits.keys()) == ["pear", "apple"]
    assert list(fruits.values()) == [1, 2] and list(fruits.items()) == [("pear", 1), ("apple", 2)]
    assert len(fruits) == 2 and "pear" in fruits and "plum" not in fruits
    assert fruits["apple"] == 2
    assert fruits.add("plum", 3) == 3


def test_an_unknown_name_is_one_line_that_lists_few_known_ones(fruits):
    with pytest.raises(ValueError) as error:
        fruits["plum"]
    assert str(error.value) == "unknown fruit 'plum'; known: pear, apple"
    with pytest.raises(ValueError, match=r"^unknown fruit 'aple'; did you mean apple\?$"):
        fruits["aple"]
    with pytest.raises(ValueError, match=r"^unknown fruit 'plum'; known: none$"):
        Registry("fruit")["plum"]


def test_many_names_are_counted_and_the_nearest_comes_first():
    names = ["sum", "ties", "core_ties", "average", *map(str, range(10))]
    assert str(unknown("method", "tie", names)) == "unknown method 'tie'; did you mean ties?"
    assert str(unknown("method", "zzz", names)) == "unknown method 'zzz'; known: 14, which --help lists"


def test_a_name_is_registered_once(fruits):
    with pytest.raises(ValueError, match=r"^fruit 'pear' is registered twice$"):
        fruits.add("pear", 3)
    assert fruits["pear"] == 1


def test_discovery_imports_every_module_but_the_command(tmp_path, monkeypatch):
    package = tmp_path / "orchard_of_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from sim.lab.registry import Registry\nTREES = Registry('tree')\nTREES.discover(__name__)\n"
    )
    (package / "__main__.py").write_text("raise AssertionError('a command was run')\n")
    (package / "_ash.py").write_text("raise AssertionError('an extra is missing')\n")
    for name in ("oak", "elm"):
        (package / f"{name}.py").write_text(f"from orchard_of_test import TREES\nTREES.add('{name}', 1)\n")
    (package / "deep").mkdir()
    (package / "deep" / "__init__.py").write_text("from orchard_of_test import TREES\nTREES.add('deep', 1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        import orchard_of_test

        assert set(orchard_of_test.TREES) == {"oak", "elm", "deep"}
    finally:
        for name in [name for name in sys.modules if name.startswith("orchard_of_test")]:
            del sys.modules[name]
