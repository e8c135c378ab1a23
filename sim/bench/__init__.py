"""Benchmarks behind one registry: a new one is a file here with a function under ``@benchmark``.

The function runs our code, and a peer's tool if it is installed. It returns one row a measurement.
"""

from sim.bench.clock import BENCHMARKS, Benchmark, benchmark

BENCHMARKS.discover(__name__)

__all__ = ["BENCHMARKS", "Benchmark", "benchmark"]
