"""Models of Hugging Face: prompts read and cut into tokens, a base and its PEFT adapters run.

Files that begin with an underscore import torch, transformers and peft (extra ``hf``), and are themselves
imported only when a model is to be run.
"""
