"""Commands as Python: packages that can be called, and results that show themselves."""
