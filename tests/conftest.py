"""Strict numerics for every test: float64 by default, no silent rank promotion, no NaN."""

import jax
import pytest

import theory  # noqa: F401  (turns on float64)

jax.config.update("jax_num_cpu_devices", 2)  # so that sharding is tested
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture
def key():
    return jax.random.key(0)
