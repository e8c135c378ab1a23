"""The experiment on a pretrained language model: a Llama's folder in place of a base of our own."""
