"""The workloads' models in plain JAX, parameters in torch's order and shapes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def losses(model: str) -> Callable:
    """(parameters, x [B, ...], y [B]) -> cross-entropies [B]."""
    logits = {"mlp": _mlp, "cnn": _cnn}[model]

    def each(params, x, y):
        log_p = jax.nn.log_softmax(logits(params, x))
        return -jnp.take_along_axis(log_p, y[:, None], axis=1)[:, 0]

    return each


def _mlp(params, x):
    w1, b1, w2, b2 = params
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ w1.T + b1)
    return hidden @ w2.T + b2


def _cnn(params, x):
    k1, c1, k2, c2, *dense = params
    x = _block(x, k1, c1)
    x = _block(x, k2, c2)
    return _mlp(dense, x)


def _block(x, kernel, bias):
    """Convolution that keeps the size, ReLU, 2 x 2 maxima."""
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME") + bias[:, None, None]
    window = (1, 1, 2, 2)
    return jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, window, window, "VALID")
