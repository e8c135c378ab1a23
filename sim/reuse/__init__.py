"""One cell of the paper's experiment: a library of adapters, every way of reusing it, what was predicted."""
