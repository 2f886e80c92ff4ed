"""The round metrics that come with fedfast. Letters as in `SeenRound`; D the mean update.

    cosine     cosine_global   1/C' sum_k cos(u_k, D) = <n, D> / (|D| sum_k l_k)
               cosine_pairs    mean over pairs j < k of cos(u_j, u_k)
                             = (|n|^2 - sum_k l_k^2) / ((sum_k l_k)^2 - sum_k l_k^2)
               with n = sum_k l_k u_k / |u_k|, so that no pair is ever looked at
    conflicts  share of the pairs with <u_j, u_k> < 0: of whole models, and mean over tensors; and
               the same of the harmonized updates, where the server's rule is FedGH's
    delta_eps  |rho_t d_t/|d_t| - rho_t d_(t-1)/|d_(t-1)||, d_t the pseudo-gradient of round t
    norm       |w| of the new global model
    drift      drift_global    sum_k p_k |u_k|^2
               drift_mean      sum_k p_k |u_k - sum_j p_j u_j|^2
                             = sum_k p_k |u_k|^2 - |sum_k p_k u_k|^2
    momentum   1/C' sum_k cos(-u_k, M), M the mean gradient that the server remembers

C' counts clients that have moved. A figure of which there is none (one client, no momentum) is nan.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...algorithms.fedgh import Harmonized
from ...algorithms.fedgloss import ServerSAM
from ...kernels.harmonize import conflicts as conflicting_pairs
from ...lr_schedules import at_round
from .round_metrics import ROUND_METRICS, Read, measures
from .seen_round import SeenRound, cosine, dots_in


@ROUND_METRICS.register("cosine")
@measures("cosine_global", "cosine_pairs", needs=("directions",))
def cosines(seen: SeenRound) -> Read:
    """How far updates point along their mean, and along each other: means over clients, pairs."""
    sums, lengths = yield seen.sums(seen.directions, seen.mean), seen.lengths
    nn, nd, dd = dots_in(sums)
    total, own = float(lengths.sum()), float((lengths * lengths).sum())
    pairs = total**2 - own
    known = int((lengths > 0).sum()) > 1
    return {
        "cosine_global": nd / (total * math.sqrt(dd)) if total * dd > 0 else math.nan,
        "cosine_pairs": (nn - own) / pairs if known else math.nan,
    }


BEFORE, AFTER = ("conflicts", "conflicts_tensors"), ("conflicts_after", "conflicts_tensors_after")


@ROUND_METRICS.register("conflicts")
@measures(*BEFORE, *AFTER, needs=("models",))
def conflicts(seen: SeenRound) -> Read:
    """Shares of pairs with a negative inner product (course report on FedGH, Fig. 9).

    The pairs of `seen.models`: of all clients, or of as many as fit into a bounded memory.
    """
    (gram,), rule = (yield (seen.gram(),)), seen.algorithm.server
    found = dict(zip(BEFORE, shares(gram), strict=True))
    after = (math.nan, math.nan)
    if isinstance(rule, Harmonized):
        given = gram if rule.granularity == "tensor" else gram.sum(axis=0, keepdims=True)
        mixing, _ = rule.harmonize(given, seen.cohort)
        after = shares(mixing @ gram @ mixing.swapaxes(-1, -2))
    return {**found, **dict(zip(AFTER, after, strict=True))}


def shares(gram: np.ndarray) -> tuple[float, float]:
    """Conflicting pairs as shares of all: (of whole models, mean over tensors). gram [L, M, M]"""
    layers, clients, _ = gram.shape
    pairs = clients * (clients - 1) // 2
    if not pairs:
        return math.nan, math.nan

    def count(table: np.ndarray) -> int:
        return int(conflicting_pairs(torch.from_numpy(table)).sum())

    return count(gram.sum(axis=0, keepdims=True)) / pairs, count(gram) / (layers * pairs)


@ROUND_METRICS.register("delta_eps")
@measures("delta_eps", "delta_eps_cosine")
def delta_eps(seen: SeenRound) -> Read:
    """FedGloSS' error of the server's perturbation (Caldarola et al., Eq. 6, Fig. 5).

    The server ascends along the pseudo-gradient it has, that of the round before:
    `e~_t = rho_t d_(t-1) / |d_(t-1)|`. The true perturbation would be along the present one,
    `e_t = rho_t d_t / |d_t|`, which is known only once the clients have trained. This is read as

        delta_eps = |e_t - e~_t| = rho_t sqrt(2 - 2 cos(d_t, d_(t-1)))        0 to 2 rho_t

    with d_t measured by the clients' training from the perturbed model: no exchange is added to
    measure it at w itself. nan in the first round, and for rules that do not perturb along a
    remembered pseudo-gradient. `delta_eps_cosine` is cos(d_t, d_(t-1)), free of the radius.
    """
    rule, last = seen.algorithm.server, seen.before.rows.get("update")
    if not isinstance(rule, ServerSAM) or last is None:
        return {"delta_eps": math.nan, "delta_eps_cosine": math.nan}
    (sums,) = yield (seen.sums(seen.after.rows["update"], last),)
    aa, ab, bb = dots_in(sums)
    turn, rho = cosine(aa, ab, bb), at_round(rule.rho, seen.cohort.round)
    # Rounding may take the cosine past 1; nan, of a pseudo-gradient that is 0, stays nan.
    return {"delta_eps": rho * math.sqrt(2.0 - 2.0 * min(turn, 1.0)), "delta_eps_cosine": turn}


@ROUND_METRICS.register("norm")
@measures("model_norm")
def norm(seen: SeenRound) -> Read:
    """Euclidean norm of all trained parameters (FedGloSS, Fig. 8)."""
    (square,) = yield (seen.square_of(seen.after.w),)
    return math.sqrt(square)


@ROUND_METRICS.register("drift")
@measures("drift_global", "drift_mean")
def drift(seen: SeenRound) -> Read:
    """Mean squared distance of the clients' models from the model sent, and from their own mean;
    means by the weights p_k of the round."""
    weights, squares, plain = yield seen.cohort.weights, seen.squares, seen.plain_square
    whole = float(weights.sum())  # 1, but for FedSGD's sum
    far = float((weights * squares).sum()) / whole
    return {"drift_global": far, "drift_mean": max(0.0, far - float(plain) / whole**2)}


@ROUND_METRICS.register("momentum")
@measures("momentum_cosine", needs=("directions",))
def momentum(seen: SeenRound) -> Read:
    """How far clients' gradients `-u_k` point along the momentum they came with: 1 - this, clipped
    to [0.1, 0.9], is what FedWMSAM's alpha follows.

    M is the server's row "m" (FedCM, MoFedSAM, FedFSA, FedWMSAM: a mean gradient), or the moment of
    its rule with the sign turned (FedAvgM, FedNSAM: a mean update).
    """
    gradient = remembered(seen)
    if gradient is None:
        return math.nan
    sums, lengths = yield seen.sums(seen.directions, gradient), seen.lengths
    (_, nm, mm), total = dots_in(sums), float(lengths.sum())
    return -nm / (total * math.sqrt(mm)) if total * mm > 0 else math.nan


def remembered(seen: SeenRound) -> Tensor | None:
    """The mean gradient that the server came into the round with, up to a factor. [trained]"""
    row = seen.before.rows.get("m")
    if row is not None:
        return row
    return None if seen.before.m is None else torch.neg(seen.before.m)
