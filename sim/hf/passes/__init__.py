"""One pass of a model for many merges of its adapters and many prompts."""
