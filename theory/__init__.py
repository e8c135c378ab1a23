"""Closed forms: when merging or routing low-rank adapters can work.

Importing this package turns on 64-bit floats in JAX, because every closed form here is computed in
float64. Code that wants 32-bit floats (the transformers in ``sim``) says so with explicit dtypes. Products of
32-bit floats are as exact on a GPU as on a CPU, and OpenBLAS uses one thread. Nothing else changes.
"""

import os

import jax

# JAX's QR and SVD on a CPU run in SciPy's OpenBLAS, whose threads wait by spinning: on the small and the tall
# thin matrices here they only cost time, 50 times as much on two busy cores. It reads this when first used,
# so a setting made for other work must give way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
jax.config.update("jax_enable_x64", True)
# A GPU would round the inputs of float32 products to 10 bits; closed forms are compared beyond that.
jax.config.update("jax_default_matmul_precision", "highest")
