"""Activations of one's own prompts at the inputs of adapted modules, for ``sim.diagnose --features``."""
