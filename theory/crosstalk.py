"""How strongly an edit stored at one prompt acts at another (theory/README.md, section 4)."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from theory import checks
from theory import model as one_layer


def arc_cosine(cosine: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """(sin t + (pi - t) cos t) / pi for cos t = ``cosine``: the arc-cosine kernel of degree 1, 1 at t = 0.

    E[relu(g.u) relu(g.v)] / E[relu(g.u)^2] for unit u, v at angle t and Gaussian g (Cho and Saul 2009).
    Rounding beyond [-1, 1] is cut off; more than that, or NaN, raises ValueError.
    """
    checks.within(-1 - 1e-6, 1 + 1e-6, cosine=cosine)
    cosine = jnp.clip(cosine, -1.0, 1.0)
    angle = jnp.arccos(cosine)
    # sin from the cosine, not from the angle: exact 1 at cosine 1 and a finite slope inside.
    sine = jnp.sqrt(jnp.maximum(1.0 - jnp.square(cosine), 0.0))
    return (sine + (jnp.pi - angle) * cosine) / jnp.pi


def kappa(
    stored: Float[Array, "*batch d"], read: Float[Array, "*batch d"], activation: str = "relu"
) -> Float[Array, "*batch"]:
    """Relative strength at ``read`` of an edit stored at ``stored``, both pre-feature vectors h.

        relu:      (|v| / |u|) * arc_cosine(cos(u, v))      identity:  <u, v> / |u|^2

    The limit in probability, m -> infinity, of <phi(u), phi(v)> / |phi(u)|^2 for Gaussian U; the error is
    O_P(1/sqrt(m)).
    A zero vector is read at strength 0. Raises ValueError for NaN, a zero stored vector or an activation
    that is neither.
    """
    checks.finite(stored=stored, read=read)
    stored_norm = jnp.linalg.norm(stored, axis=-1)
    checks.above(0, stored_norm=stored_norm)
    read_norm = jnp.linalg.norm(read, axis=-1)
    product = stored_norm * read_norm
    cosine = jnp.sum(stored * read, axis=-1) / jnp.where(product > 0, product, 1.0)
    ratio = read_norm / stored_norm
    if activation == "identity":
        return ratio * cosine
    if activation == "relu":
        return ratio * arc_cosine(cosine)
    raise ValueError(f"unknown activation {activation!r}; use relu or identity")


def kappa_variance(angle: float) -> float:
    """m Var of <phi(u), phi(v)> / |phi(u)|^2 at unit vectors at this angle (relu), as m -> infinity.

    The delta method: with x = 2 relu(g.u) relu(g.v), y = 2 relu(g.u)^2 and E y = 1 it is E[(x - kappa y)^2],
    one integral over the circle, since the radius of g in the plane of u and v has E rho^4 = 8.
    Raises ValueError for an angle outside [0, pi].
    """
    checks.within(0, math.pi, angle=angle)
    psi = (np.arange(4096) + 0.5) * 2 * np.pi / 4096
    u, v = np.maximum(np.cos(psi), 0), np.maximum(np.cos(psi - angle), 0)
    limit = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
    return float(32 * np.mean(np.square(u * (v - limit * u))))


def prompt_kappa(
    config: one_layer.ModelConfig, stored: Int[Array, "*batch length"], read: Int[Array, "*batch other"]
) -> Float[Array, "*batch"]:
    """kappa between two token prompts for orthonormal embeddings: only shared tokens in like places count.

    With attention "sum": same relation and other entity 0.609, nothing shared 1/pi, p12 against p1
    or p2 0.673. No chance is left in it: only the embeddings are used, never U.
    """
    ideal = one_layer.make(
        replace(config, embeddings="orthonormal", dim=2 * config.tokens), jax.random.key(0)
    )
    return kappa(
        one_layer.hidden(config, ideal, stored), one_layer.hidden(config, ideal, read), config.activation
    )


def edit_overlap(
    keys: Float[Array, "facts m"], read: Float[Array, "prompts m"]
) -> Float[Array, "facts prompts"]:
    """c = Phi^+ phi(read): how strongly each fact of a least-squares adapter acts at other prompts.

    The finite-F form of kappa. A full-rank least-squares adapter changes the logits at ``read`` by
    R c, so c_k replaces <phi_k, phi> / |phi_k|^2, to which it reduces for orthogonal keys.
    Raises ValueError for NaN or no keys.
    """
    checks.finite(keys=keys, read=read)
    return jnp.linalg.lstsq(keys.T, read.T, rcond=None)[0]


def mean_overlap(
    facts: int,
    keys: Float[Array, ""] | float,
    own: Float[Array, ""] | float,
    other: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """c_kk of ``edit_overlap`` when facts are exchangeable, from the three kernel values alone.

    ``keys`` = q is kappa between the keys of two facts, ``own`` between a fact's key and its own other
    prompt, ``other`` between a fact's key and another fact's other prompt. With the Gram matrix
    (1-q) I + q 11^T:  alpha + beta,  alpha = (own - other)/(1-q),  beta = (other - alpha q)/(1 + q(F-1)).
    Asymptotic in m. At F = 1 it is ``own``. Raises ValueError unless facts is a whole number of at least 1
    and -1/(F-1) < q < 1, where the Gram matrix has an inverse.
    """
    checks.whole(facts=facts)
    checks.finite(keys=keys, own=own, other=other)
    checks.above(0, keys_apart=1.0 - jnp.asarray(keys), keys_together=1.0 + jnp.asarray(keys) * (facts - 1))
    alpha = (own - other) / (1.0 - keys)
    return alpha + (other - alpha * keys) / (1.0 + keys * (facts - 1))


def turned_overlap(facts: int, angle: float | Float[Array, "..."]) -> Float[Array, "..."]:
    """Whitened kappa of F facts "a REL" read at a relation word turned by ``angle``, from the kernel alone.

    One-layer relu model, orthonormal embeddings, attention "sum": V e_a + e_R has cosine 1/2 with another
    fact, (1 + cos)/2 with its own paraphrase and cos/2 with another fact's (``mean_overlap``). It falls from
    1 at 0 to about one half at pi. Raises ValueError as ``mean_overlap``, and for NaN or an
    infinite angle.
    """
    checks.finite(angle=angle)
    turn = jnp.cos(jnp.asarray(angle, jnp.float64))
    return mean_overlap(facts, arc_cosine(jnp.asarray(0.5)), arc_cosine((1 + turn) / 2), arc_cosine(turn / 2))


def turned_angle(facts: int, overlap: float | Float[Array, "..."]) -> Float[Array, "..."]:
    """The angle in [0, pi] at which ``turned_overlap`` has the value ``overlap``, by bisection.

    Raises ValueError for an overlap that no angle gives.
    """
    checks.finite(overlap=overlap)
    overlap = jnp.asarray(overlap, jnp.float64)
    least = float(turned_overlap(facts, jnp.pi))
    if not bool(jnp.all((overlap >= least) & (overlap <= 1.0))):
        raise ValueError(f"overlap is {overlap}; with {facts} facts a turn gives {least:.3f} to 1")

    def halve(_, ends):
        middle = (ends[0] + ends[1]) / 2
        further = turned_overlap(facts, middle) > overlap
        return jnp.where(further, middle, ends[0]), jnp.where(further, ends[1], middle)

    ends = jnp.zeros_like(overlap), jnp.full_like(overlap, jnp.pi)
    return jax.lax.fori_loop(0, 52, halve, ends)[0]
