"""Strict numerics for every test: float64 by default, no silent rank promotion, no NaN."""

import hypothesis
import jax
import pytest

import theory  # noqa: F401  (turns on float64)

# Compiling takes its time on a busy machine; the examples are the same in every run.
hypothesis.settings.register_profile("toolkit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("toolkit")
jax.config.update("jax_num_cpu_devices", 2)  # so that sharding is tested
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture
def key():
    return jax.random.key(0)
