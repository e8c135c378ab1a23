"""What the bar of a run counts: resumed units are there from the start and say nothing of the time left."""

from dataclasses import dataclass, field

import pytest

from sim.lab.parallel import THIS_PROCESS
from sim.sweep import run as runner


@dataclass(frozen=True)
class Setting:
    size: int = 1


@dataclass(frozen=True)
class Part:
    """Six units, of which some are there; each makes one row."""

    config: tuple = ("toy",)
    setting: type = field(default=Setting)

    def stages(self, context, experiment, count, done):
        events.append(f"stages of {self.config}")
        units = [f"{experiment}/only/seed{seed:03d}" for seed in range(count)]
        todo = [unit for unit in units if unit not in done]

        def work():
            events.append(f"work of {self.config}")
            yield {}, len(units) - len(todo)
            for unit in todo:
                row = {"experiment": experiment, "world": "toy", "label": "only", "seed": int(unit[-3:])}
                answer = {"metric": "direct", "measured": 1.0, "predictor": "", "method": "sum"}
                yield {unit: [row | answer]}, 1

        yield "toy", len(units), work()

    def precompile(self, context, experiment, count, done):
        events.append(f"precompile {self.config}")


events = []
"""What became of the parts, in order."""


@pytest.fixture
def bars(monkeypatch):
    """The bars that are shown: (total, where the clock began, each advance)."""
    seen = []

    class Bar(runner.tqdm):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            self.advances = []
            seen.append(self)

        def update(self, count=1):
            self.advances.append(count)
            return super().update(count)

    monkeypatch.setattr(runner, "tqdm", Bar)
    return seen


def go(folder, count):
    # The seeds are no part of what identifies this run, so that it can be taken further.
    runner.run("toy", [Part()], [count], {"experiment": "toy"}, folder, "toy", THIS_PROCESS)


def test_resumed_units_are_counted_and_do_not_make_the_rest_look_fast(tmp_path, bars):
    go(tmp_path, 4)
    go(tmp_path, 6)
    first, second = bars
    assert (first.total, first.initial, first.advances) == (4, 0, [0, 1, 1, 1, 1])
    assert (second.total, second.initial, second.advances) == (6, 4, [4, 1, 1])
    assert first.n == 4 and second.n == 6


def test_the_next_part_is_precompiled_before_a_part_works(tmp_path):
    events.clear()
    parts = [Part("first"), Part("second"), Part("third")]
    arguments = "toy", parts, [1, 1, 1], {"experiment": "toy"}, tmp_path, "toy", THIS_PROCESS
    runner.run(*arguments, precompile_next=lambda: events.append("precompile what is next"))
    assert events == [
        *("precompile first", "precompile second", "stages of first", "work of first"),
        *("precompile third", "stages of second", "work of second"),
        *("precompile what is next", "stages of third", "work of third"),
    ]
