"""The merge methods, one family a file: a new method is a new file here, or one function in a family."""

from sim.merge.registry import METHODS

METHODS.discover(__name__)
