"""What makes JAX compile in less time, in a process that tests: its programs run for milliseconds."""

import contextlib
import functools
import gc
import os

import jax

from sim.lab import parallel

# Most of the time goes into compiling programs that run for milliseconds: without LLVM's optimisation they
# compile three times as fast, and a sixth faster still where it neither runs its expensive passes nor gets
# them in pieces, to be compiled at once. Workers and the processes that tests start inherit the flags.
FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
if jax.__version_info__ < (0, 11):  # later releases abort at a flag they no longer know
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()

# What is imported is not garbage: to look for some among it at every turn took a twentieth of the time.
gc.set_threshold(10_000)

# Programs say what effort they are worth; here they run for milliseconds, all of them.
of_effort = parallel.compiler_options
parallel.compiler_options = lambda effort: of_effort(0)

# Programs need not say where in Python their operations stand: a sixth less CPU time where much is compiled.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # of the processes that tests start
jax.config.update("jax_traceback_in_locations_limit", 0)

# JAX lowers every program in an MLIR context of its own, which takes 3 ms and 2 MB: half of what it takes to
# lower a program of one operation, a fifth of the time of the tests of theory. One context serves them all.
with contextlib.suppress(ImportError, AttributeError):  # a part of JAX that it does not show
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)
