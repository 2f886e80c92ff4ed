"""`aggregate` and the rules of the server in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..server import Server


def aggregate(
    client_rows: Tensor,
    weights: Tensor,
    base: Tensor,
    acc: Tensor,
    nodes: Tensor | None,
    order: Tensor,
    server: Server | None,
    w: Tensor | None,
    m: Tensor | None,
    v: Tensor | None,
    out: Tensor | None,
    squares: Tensor,
) -> None:
    """`acc (+)= sum_k a_k (rows_k - base_k)`, then the server rule, see `kernels.aggregate`."""
    before, *steps, after = order.tolist()
    stack = [acc, *(() if nodes is None else nodes)]
    stack = [row.clone() for row in stack[:before]]
    for k, (node, then) in enumerate(zip(steps, [*steps[1:], after], strict=True)):
        update = client_rows[k].double() - base[k].double()
        squares[k] = update.square().sum()
        if node < 0:
            stack.append(torch.zeros_like(acc))
        stack[-1] += weights[k].double() * update
        while len(stack) > abs(then) - (then < 0):
            right = stack.pop()
            stack[-1] += right
    for row, found in zip([acc, *(() if nodes is None else nodes)], stack, strict=False):
        row.copy_(found)
    if server is None or w is None or out is None:
        return
    squares[-1] = acc.square().sum()
    out.copy_(w.double() + server_direction(acc, server, m, v))


def server_direction(mean: Tensor, server: Server, m: Tensor | None, v: Tensor | None) -> Tensor:
    """What the server adds to its model; `m`, `v` change in place. mean: [S] float64 -> same."""
    rule, lr, beta1, beta2 = server.rule, server.lr, server.beta1, server.beta2
    if rule == "average" or m is None:
        return lr * mean
    if rule == "momentum":
        return lr * m.copy_(beta1 * m.double() + mean).double()
    assert v is not None
    square, old = mean.square(), v.double()
    v.copy_(
        {
            "adagrad": old + square,
            "adam": beta2 * old + (1 - beta2) * square,
            "yogi": old - (1 - beta2) * square * torch.sign(old - square),
        }[rule]
    )
    m.copy_(beta1 * m.double() + (1 - beta1) * mean)
    return lr * m.double() / (v.double().sqrt() + server.tau)
