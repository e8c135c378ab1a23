"""Many runs of one function, on all devices, compiled once. Knows nothing of LoRA."""

from sim.lab.parallel.chunks import (
    MOST,
    Executor,
    chunked,
    computing,
    default_width,
    devices,
    expect,
    here,
    in_stages,
    over,
)
from sim.lab.parallel.machine import cache_folder, fits, keep_compiled, use_all_cores
from sim.lab.parallel.programs import Program, brief, prepare, program

__all__ = [
    "MOST",
    "Executor",
    "Program",
    "brief",
    "cache_folder",
    "chunked",
    "computing",
    "default_width",
    "devices",
    "expect",
    "fits",
    "here",
    "in_stages",
    "keep_compiled",
    "over",
    "prepare",
    "program",
    "use_all_cores",
]
