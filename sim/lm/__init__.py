"""The command that fetches a small real language model."""
