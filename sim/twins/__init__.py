"""Each law simulated without seeing it: the file has the name of the law it can contradict."""
