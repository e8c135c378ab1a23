"""Published routers: the prototypes that each reads off the factors of one adapter."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.model.routing import router
from theory.lowrank import LowRank, absorbed, directions


@router()
def arrow(update: LowRank) -> Float[Array, "1 in"]:
    """Arrow: the top right singular vector of Delta W, exactly (QR of the factors, SVD of the small core).

    Ostapenko et al. 2024 (arXiv 2405.11157). Scores |<v_1, x>| whatever the sign and the scale; an update of
    zero has no direction, so its prototype is 0.
    """
    return directions(update)[2][:1]


@router()
def spectr(update: LowRank) -> Float[Array, "r in"]:
    """SpectR: the whole right space with its singular values, S V^T, so that the score is |Delta W x|.

    Fleshman and Van Durme 2025 (arXiv 2504.03454).
    """
    _, s, vt = directions(update)
    return s[:, None] * vt


@router()
def seqr(update: LowRank) -> Float[Array, "r in"]:
    """SEQR: R A with B = Q R, which scores |Delta W x| as SpectR does with a QR in place of an SVD.

    Fleshman and Van Durme 2025 (arXiv 2509.18093), without its calibration, which needs data.
    """
    update = absorbed(update)
    return jnp.linalg.qr(update.b)[1] @ update.a


@router("unit", top_k=1)
def arrow_top1(update: LowRank) -> Float[Array, "1 in"]:
    """Hard Arrow: the adapter with the highest Arrow score acts alone, at its own scale (weight 1).

    A softmax over K adapters gives the chosen one less than 1: the coverage law's lambda.
    """
    return arrow(update)


@router("share")
def logo(update: LowRank) -> Float[Array, "r in"]:
    """LoGo: weights in proportion to the norms |Delta W x|, s_i / sum_j s_j over the top k.

    Lee et al. 2025 (arXiv 2511.07129), its norm signal. The paper reads it once, at the last token's query of
    one block, and keeps the weights for the sequence and all modules; here, as with every router, each token
    and module has its own. All adapters take part unless top_k says otherwise (the paper: some 5 of 260).
    """
    return seqr(update)


@router("unit", split=True)
def components(update: LowRank) -> Float[Array, "r in"]:
    """Rank-one routing: of all parts s_j u_j v_j^T of all adapters, the top k for a token, at weight 1.

    The token level of HiLoRA (Han et al. 2025, arXiv 2510.12266), whose sequence level needs samples of each
    adapter's data and an encoder. A part scores s_j |<v_j, x>|, the length of what it adds. They are singular
    ones: the stored rows and columns would be others in another factorisation of the same Delta W.
    """
    return spectr(update)
