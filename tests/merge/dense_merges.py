"""Dense float64 references of every merge method, written from the published definitions.

On (out, in) numpy matrices with plain sorts and full SVDs, sharing nothing with ``sim.merge``.
``weights`` multiply the adapters (already normalised where the method normalises).
"""

import numpy as np

REFERENCES = {}
ROUNDING = 1e-10


def reference(name):
    def keep(function):
        REFERENCES[name] = function
        return function

    return keep


def weighted(deltas, weights):
    return np.einsum("k,koi->oi", weights, np.stack(deltas))


for _name in ("average", "sum", "concat"):
    REFERENCES[_name] = lambda deltas, weights, **_: weighted(deltas, weights)


def cut(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


@reference("task_arithmetic")
def _(deltas, weights, coefficient, **_):
    return coefficient * weighted(deltas, weights)


@reference("svd")
def _(deltas, weights, factors, **_):
    return cut(weighted(deltas, weights), max(a.shape[0] for _, a, _ in factors))


@reference("linear_factors")
def _(deltas, weights, factors, **_):
    roots = [np.sqrt(abs(w * s)) for w, (_, _, s) in zip(weights, factors, strict=True)]
    signs = [np.sign(w * s) for w, (_, _, s) in zip(weights, factors, strict=True)]
    b = np.sum([root * b for root, (b, _, _) in zip(roots, factors, strict=True)], axis=0)
    a = np.sum([g * root * a for g, root, (_, a, _) in zip(signs, roots, factors, strict=True)], axis=0)
    return b @ a


def largest(delta, count):
    """Zero all but the ``count`` entries of largest magnitude."""
    order = np.argsort(-np.abs(delta).ravel())
    mask = np.zeros(delta.size)
    mask[order[:count]] = 1
    return delta * mask.reshape(delta.shape)


def disjoint_mean(entries, vote):
    entries = np.stack(entries)
    merged = np.zeros(entries.shape[1:])
    for place in np.ndindex(merged.shape):
        values = entries[(slice(None), *place)]
        positive, negative = values[values > 0], values[values < 0]
        if vote == "count" and len(positive) != len(negative):
            winners = positive if len(positive) > len(negative) else negative
        else:
            winners = positive if positive.sum() > -negative.sum() else negative
        merged[place] = winners.mean() if len(winners) else 0.0
    return merged


@reference("ties")
def _(deltas, weights, density, vote, **_):
    count = int(np.floor(density * deltas[0].size + 1e-9))
    return disjoint_mean([w * largest(d, count) for w, d in zip(weights, deltas, strict=True)], vote)


@reference("magnitude_prune")
def _(deltas, weights, density, **_):
    count = int(np.floor(density * deltas[0].size + 1e-9))
    return weighted([largest(d, count) for d in deltas], weights)


@reference("breadcrumbs")
def _(deltas, weights, density, gamma, **_):
    size = deltas[0].size
    top, keep = int(np.floor(gamma * size + 1e-9)), int(np.floor(density * size + 1e-9))
    return weighted([largest(d, top + keep) - largest(d, top) for d in deltas], weights)


def dropped(delta, draws, keep):
    return np.where(draws < keep, delta / keep, 0.0)


@reference("dare")
def _(deltas, weights, density, draws, **_):
    return weighted([dropped(d, u, density) for d, u in zip(deltas, draws, strict=True)], weights)


@reference("dare_ties")
def _(deltas, weights, density, vote, draws, **_):
    survivors = [w * dropped(d, u, density) for w, d, u in zip(weights, deltas, draws, strict=True)]
    return disjoint_mean(survivors, vote)


@reference("della")
def _(deltas, weights, density, epsilon, vote, draws, **_):
    survivors = []
    for weight, delta, draw in zip(weights, deltas, draws, strict=True):
        keep = np.zeros(delta.shape)
        for row in range(delta.shape[0]):
            order = np.argsort(np.abs(delta[row]))
            keep[row, order] = np.linspace(density - epsilon / 2, density + epsilon / 2, delta.shape[1])
        survivors.append(weight * dropped(delta, draw, keep))
    return disjoint_mean(survivors, vote)


@reference("sce")
def _(deltas, weights, density, **_):
    stack = np.stack([w * d for w, d in zip(weights, deltas, strict=True)])
    variance = stack.var(axis=0)
    count = int(np.floor(density * variance.size + 1e-9))
    stack = stack * (largest(variance, count) != 0 if density < 1 else 1)
    energy = np.sum(stack**2, axis=(1, 2))
    eta = energy / energy.sum()
    winner = np.sign(stack.sum(axis=0))
    merged = np.zeros(variance.shape)
    for place in np.ndindex(merged.shape):
        values = stack[(slice(None), *place)]
        agrees = (np.sign(values) == winner[place]) & (values != 0)
        if agrees.any():
            merged[place] = eta[agrees] @ values[agrees] / eta[agrees].sum()
    return merged


def thin(matrix):
    """SVD cut to the directions above rounding."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.sum(s > ROUNDING * s[0]))
    return u[:, :rank], s[:rank], vt[:rank]


def orthonormal(columns):
    u, _, vt = thin(columns)
    return u @ vt


@reference("knots")
def _(deltas, weights, density, vote, **_):
    u, s, vt = thin(np.concatenate(deltas, axis=1))
    parts = np.split(s[:, None] * vt, len(deltas), axis=1)
    count = int(np.floor(density * parts[0].size + 1e-9))
    return u @ disjoint_mean([w * largest(p, count) for w, p in zip(weights, parts, strict=True)], vote)


@reference("tsv_merge")
def _(deltas, weights, **_):
    us, ss, vts = zip(*(thin(w * d) for w, d in zip(weights, deltas, strict=True)), strict=True)
    u, v = orthonormal(np.concatenate(us, axis=1)), orthonormal(np.concatenate(vts).T)
    return (u * np.concatenate(ss)) @ v.T


@reference("iso_c")
def _(deltas, weights, **_):
    u, s, vt = thin(weighted(deltas, weights))
    return s.mean() * u @ vt


@reference("iso_cts")
def _(deltas, weights, common, factors, **_):
    rank = min(np.sum([a.shape[0] for _, a, _ in factors]), *deltas[0].shape)
    own = round((rank - int(common * rank)) / len(deltas))
    shared = rank - own * len(deltas)
    u, s, vt = (
        x[..., :shared] if i < 2 else x[:shared] for i, x in enumerate(thin(weighted(deltas, weights)))
    )
    us, ss, vts = [u], [s], [vt]
    for weight, delta in zip(weights, deltas, strict=True):
        own_u, own_s, own_vt = np.linalg.svd(weight * (delta - u @ u.T @ delta))
        us.append(own_u[:, :own]), ss.append(own_s[:own]), vts.append(own_vt[:own])
    return np.concatenate(ss).mean() * (
        orthonormal(np.concatenate(us, axis=1)) @ orthonormal(np.concatenate(vts).T).T
    )


@reference("wudi")
def _(deltas, weights, **_):
    grams = [d.T @ d / max(np.sum(d**2), ROUNDING) for d in deltas]
    right = np.sum([w * d @ g for w, d, g in zip(weights, deltas, grams, strict=True)], axis=0)
    return right @ np.linalg.pinv(np.sum(grams, axis=0), rcond=ROUNDING)


@reference("slerp")
def _(deltas, weights, **_):
    first, second = deltas
    angle = np.arccos(np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second))
    return (np.sin(weights[0] * angle) * first + np.sin(weights[1] * angle) * second) / np.sin(angle)


def barycentre(deltas, weights, steps):
    """Logarithms at the current unit matrix, averaged, mapped back; started at the mean direction."""
    units = [d / np.linalg.norm(d) for d in deltas]
    point = weighted(units, weights)
    point /= np.linalg.norm(point)
    for _ in range(steps):
        logs = []
        for unit in units:
            angle = np.arccos(np.sum(unit * point))
            logs.append(angle / np.sin(angle) * (unit - np.cos(angle) * point))
        tangent = weighted(logs, weights)
        length = np.linalg.norm(tangent)
        if length > 0:
            point = np.cos(length) * point + np.sin(length) / length * tangent
    return point * np.sum(weights * [np.linalg.norm(d) for d in deltas])


@reference("multislerp")
def _(deltas, weights, **_):
    return barycentre(deltas, weights, 1)


@reference("karcher")
def _(deltas, weights, **_):
    return barycentre(deltas, weights, 300)


@reference("model_stock")
def _(deltas, weights, **_):
    units = [d / np.linalg.norm(d) for d in deltas]
    pairs = [np.sum(units[i] * units[j]) for i in range(len(units)) for j in range(i)]
    c, k = max(np.mean(pairs), 0.0), len(deltas)
    return k * c / (1 + (k - 1) * c) * weighted(deltas, weights)


@reference("regmean")
def _(deltas, weights, grams, shrink, **_):
    grams = [w * np.where(np.eye(len(g)) == 1, g, shrink * g) for w, g in zip(weights, grams, strict=True)]
    right = np.sum([d @ g for d, g in zip(deltas, grams, strict=True)], axis=0)
    return right @ np.linalg.inv(np.sum(grams, axis=0))


@reference("fisher")
def _(deltas, weights, fishers, **_):
    mass = weights[:, None, None] * np.stack(fishers)
    return np.sum(mass * np.stack(deltas), axis=0) / mass.sum(axis=0)


@reference("task_arithmetic_fitted")
def _(deltas, weights, grams, **_):
    total = weighted(deltas, weights)
    roots = [np.linalg.cholesky(g) for g in grams]  # |D X^T|^2 = |D L|^2 with G = L L^T
    seen = np.concatenate([(total @ root).ravel() for root in roots])
    wanted = np.concatenate([(d @ root).ravel() for d, root in zip(deltas, roots, strict=True)])
    return np.linalg.lstsq(seen[:, None], wanted, rcond=None)[0][0] * total
