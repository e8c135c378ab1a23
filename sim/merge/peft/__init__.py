"""Adapters on disk, as PEFT writes them: configuration, names, fused experts, reading and writing."""
