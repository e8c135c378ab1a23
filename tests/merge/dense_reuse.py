"""Dense float64 references of the merges of 2025 and 2026, from their definitions, beside dense_merges.py."""

import jax
import numpy as np
from dense_merges import REFERENCES, disjoint_mean, largest, reference, thin, weighted


@reference("ace")
def _(deltas, weights, ridge, **_):
    grams = []
    for delta in deltas:
        centred = delta - delta.mean(axis=0)
        gram = centred.T @ centred
        grams.append(gram / (np.trace(gram) or 1) + ridge * np.eye(len(gram)))
    right = np.sum([w * d @ g for w, d, g in zip(weights, deltas, grams, strict=True)], axis=0)
    return right @ np.linalg.inv(np.sum(grams, axis=0))


@reference("svc")
def _(deltas, weights, alpha, **_):
    u, s, vt = thin(weighted(deltas, weights))
    for r in range(len(s)):
        together, counts = s[r] * vt[r], []
        for weight, delta in zip(weights, deltas, strict=True):
            own = u[:, r] @ (weight * delta)
            size = own @ own
            ratio = together @ own / size if size > 1e-18 * np.sum(delta**2) else 0.0
            counts.append(max(alpha, ratio))
        s[r] *= len(deltas) / np.sum(counts)
    return (u * s) @ vt


def shared(deltas):
    """Left and right bases of the balanced factors side by side."""
    pieces = [thin(d) for d in deltas if d.any()]
    left = thin(np.concatenate([u * np.sqrt(s) for u, s, _ in pieces], axis=1))[0]
    right = thin(np.concatenate([np.sqrt(s)[:, None] * vt for _, s, vt in pieces]))[2].T
    return left, right


def voted(cores, weights, density, vote):
    count = int(np.floor(density * cores[0].size + 1e-9))
    return disjoint_mean([w * largest(c, count) for w, c in zip(weights, cores, strict=True)], vote)


@reference("core_ties")
def _(deltas, weights, density, vote, **_):
    left, right = shared(deltas)
    cores = [left.T @ d @ right for d in deltas]
    return left @ voted(cores, weights, density, vote) @ right.T


@reference("compress_then_merge")
def _(deltas, weights, beta, density, vote, factors, **_):
    """Alternation on the (out, in) matrices themselves, without a core."""
    rank = max(a.shape[0] for _, a, _ in factors)
    norms = np.array([np.linalg.norm(d) for d in deltas])
    wanted = beta * norms + (1 - beta) * norms.mean()
    target = [w * d / (n or 1) for w, d, n in zip(wanted, deltas, norms, strict=True)]

    def top(matrices):
        return np.linalg.svd(np.concatenate(matrices, axis=1), full_matrices=False)[0][:, :rank]

    u, v = top(target), top([x.T for x in target])
    for _ in range(10):
        u = top([x @ v for x in target])
        v = top([x.T @ u for x in target])
    return u @ voted([u.T @ d @ v for d in deltas], weights, density, vote) @ v.T


@reference("nuslerp")
def _(deltas, weights, axis, **_):
    first, second = deltas if axis == "rows" else (d.T for d in deltas)
    merged = [REFERENCES["slerp"]([x[None], y[None]], weights)[0] for x, y in zip(first, second, strict=True)]
    return np.stack(merged) if axis == "rows" else np.stack(merged).T


@reference("do")
def _(deltas, weights, penalty, **_):
    def split(delta):
        u, s, vt = np.linalg.svd(delta)
        count = int(np.sum(s > 1e-9 * max(s[0], 1e-300)))
        return np.sqrt(s[:count])[:, None] * u.T[:count], np.sqrt(s[:count])[:, None] * vt[:count]

    moved = []
    for side in zip(*map(split, deltas), strict=True):
        norms = [np.linalg.norm(f) or 1 for f in side]
        start = [f / n for f, n in zip(side, norms, strict=True)]
        now = start
        for _step in range(50):
            grams = [f.T @ f for f in now]
            now = [
                f - 0.1 * (2 * f @ (sum(grams) - g) + 2 * penalty * (f - f0))
                for f, g, f0 in zip(now, grams, start, strict=True)
            ]
        moved.append([n * f for n, f in zip(norms, now, strict=True)])
    deltas = [b.T @ a for b, a in zip(*moved, strict=True)]
    lengths = np.stack([np.linalg.norm(d, axis=0) for d in deltas])
    directions = [d / np.where(m > 0, m, 1) for d, m in zip(deltas, lengths, strict=True)]
    return (np.asarray(weights) @ lengths)[None, :] * weighted(directions, weights)


@reference("ram")
def _(deltas, weights, threshold, boost, **_):
    entries = np.stack([w * d for w, d in zip(weights, deltas, strict=True)])
    changed = np.stack([abs(e) > threshold * abs(e).max() for e in entries])
    holders = changed.sum(axis=0)
    merged = np.zeros(holders.shape)
    for entry, mask in zip(entries, changed, strict=True):
        own, common = mask & (holders == 1), mask & (holders > 1)
        factor = 1 + boost * min(common.sum() / max(own.sum(), 1), 0.2)
        merged += factor * entry * own + np.where(common, entry / np.maximum(holders, 1), 0)
    return merged


@reference("scaled_sum")
def _(deltas, weights, **_):
    total = weighted(deltas, weights)
    return total / np.linalg.norm(total) * np.sum(weights * [np.linalg.norm(d) for d in deltas])


@reference("random_spectrum")
def _(deltas, weights, factors, **_):
    """The same Gaussian draws, orthonormalised by numpy."""
    b = np.concatenate([w * s * b for w, (b, _, s) in zip(weights, factors, strict=True)], axis=1)
    a = np.concatenate([a for _, a, _ in factors])
    sides = []
    for side, factor in enumerate((b, a.T)):
        root = np.linalg.qr(factor)[1]
        key = jax.random.fold_in(jax.random.key(11), side)
        drawn = np.asarray(jax.random.normal(key, (len(factor), len(root)), np.float64))
        sides.append(np.linalg.qr(drawn)[0] @ root)
    return sides[0] @ sides[1].T
