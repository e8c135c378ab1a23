"""The laboratory: run, keep, measure, draw. Knows nothing of LoRA."""
