"""A closed form and its empirical twin take the same defaults."""

import importlib
import inspect
import pkgutil

import pytest

import sim.twins
import theory

MODULES = {item.name for item in pkgutil.iter_modules(sim.twins.__path__)} & {
    item.name for item in pkgutil.iter_modules(theory.__path__)
}
EMPTY = inspect.Parameter.empty


@pytest.mark.parametrize("name", sorted(MODULES))
def test_defaults_of_twins_are_equal(name):
    law, twin = (vars(importlib.import_module(f"{package}.{name}")) for package in ("theory", "sim.twins"))
    both = [each for each in law.keys() & twin.keys() if inspect.isroutine(inspect.unwrap(law[each]))]
    for function in both:
        ours, others = (inspect.signature(room[function]).parameters for room in (law, twin))
        for parameter in ours.keys() & others.keys():
            defaults = {ours[parameter].default, others[parameter].default} - {EMPTY}
            assert len(defaults) < 2, (function, parameter)
