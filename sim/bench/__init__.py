"""Benchmarks behind one registry: a file each, a decorated function that returns a table.

To add one, write ``sim/benchmarks/<name>.py`` with a function under ``@benchmark`` and import it below.
"""

from sim.bench.clock import BENCHMARKS, Benchmark, benchmark

from sim.bench import merge  # isort: skip

__all__ = ["BENCHMARKS", "Benchmark", "benchmark", "merge"]
