"""Benchmarks behind one registry: a new one is a file here with a function under ``@benchmark``.

The function runs the work, by ours and by a peer's tool where installed, and returns one row a measurement.
"""

from sim.bench.clock import BENCHMARKS, Benchmark, benchmark

BENCHMARKS.discover(__name__)

__all__ = ["BENCHMARKS", "Benchmark", "benchmark"]
