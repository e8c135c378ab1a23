"""What routers with a rule of their own add to an output: dense matrices, the published definitions."""

import numpy as np

REFERENCES = {}


def reference(name):
    def register(function):
        REFERENCES[name] = function
        return function

    return register


def choice(scores, top_k):
    """Indices of the top k, the lower of equals first."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top_k]


@reference("arrow_top1")
def hard_arrow(matrices, x, top_k):
    scores = [abs(np.linalg.svd(m)[2][0] @ x) for m in matrices]
    return sum(matrices[i] @ x for i in choice(scores, top_k or 1))


@reference("logo")
def logo(matrices, x, top_k):
    scores = [np.linalg.norm(m @ x) for m in matrices]
    top = choice(scores, top_k or len(matrices))
    return sum(scores[i] / sum(scores[j] for j in top) * (matrices[i] @ x) for i in top)


@reference("components")
def rank_one(matrices, x, top_k):
    parts = []
    for matrix in matrices:
        u, s, vt = np.linalg.svd(matrix)
        parts += [s[j] * (vt[j] @ x) * u[:, j] for j in range(np.linalg.matrix_rank(matrix))]
    return sum(parts[i] for i in choice([np.linalg.norm(part) for part in parts], top_k or 3))
