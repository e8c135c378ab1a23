"""Adapters on disk or on the hub: configuration, names, fused experts, other kinds, reading and writing."""
