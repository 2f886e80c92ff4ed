"""The gradient of a `Bottleneck`: an encoder's program, samples of its Gaussians, a linear head."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from .. import kernels
from ..algorithms.objective import Bottleneck
from ..batches import Minibatch
from ..layout import FlatLayout
from .context import BatchContext
from .passes import backward, forward
from .program import BufferSpec, Program, SampledHead
from .records import Arguments


def elements_per_client(head: SampledHead, width: int) -> int:
    """Numbers that the head's pass holds of a client: samples with their noise and gradients,
    logits, labels."""
    rows = width * head.sampling.samples
    return rows * (3 * head.size + head.classes + 2) + 2 * head.classes * head.size


class BottleneckPass:
    """Of `program`, which has a head."""

    def __init__(self, program: Program, layout: FlatLayout, spec: BufferSpec) -> None:
        assert program.head is not None
        self.program, self.head = program, program.head
        rows, dtype = spec.width * self.head.sampling.samples, layout.dtype
        self._z, self._dz = (spec.zeros(rows, self.head.size, dtype=dtype) for _ in range(2))
        self._logits = spec.zeros(rows, self.head.classes, dtype=dtype)
        self._labels = spec.zeros(rows, dtype=torch.int64)
        self._counts = spec.zeros(dtype=torch.int32)

    @cached_property
    def _plain(self) -> Bottleneck:
        """The model's own loss: all samples are the means themselves."""
        return self._made()

    @cached_property
    def _held(self) -> Bottleneck:
        """At addresses that stay."""
        return self._made()

    def _made(self) -> Bottleneck:
        noise, like = torch.zeros_like(self._z), self._z
        mean = like.new_zeros(self.head.classes, self.head.size)
        nothing = like.new_zeros(len(like)), mean[None], mean[None]
        return Bottleneck(self.head.sampling, 0.0, noise, mean, torch.ones_like(mean), *nothing)

    def held(self, objective: Bottleneck, clients: int) -> Bottleneck:
        """The same with its tensors copied to addresses that stay, for plans."""
        own = self._held
        own.noise[:clients].copy_(objective.noise)
        own.mean.copy_(objective.mean)
        own.spread.copy_(objective.spread)
        noise = own.noise[:clients]
        return replace(objective, noise=noise, mean=own.mean, spread=own.spread)

    def run(self, context: BatchContext, objective: Bottleneck | None, losses: Tensor) -> None:
        """Losses [K] and gradients."""
        at, many, batch = objective or self._plain, context.clients, context.batch
        alpha, backend = self.head.sampling.alpha, context.backend
        h, noise = forward(context, self.program.records), at.noise[:many]
        into: Arguments = dict(z=self._z[:many], counts=self._counts[:many])
        into["labels"] = self._labels[:many]
        given = noise, batch.y, context.count
        kernels.sample_gaussian(h, *given, alpha=alpha, **into, backend=backend)
        self._classify(context, losses)
        kernels.sample_gaussian_backward(
            h,
            noise,
            self._dz[:many],
            batch.y,
            context.count,
            at.mean,
            at.spread,
            losses=losses,
            alpha=alpha,
            beta=at.beta,
            dh=context.own_gradient(self.program.output),
            backend=backend,
        )
        backward(context, self.program.records)

    def _classify(self, context: BatchContext, losses: Tensor) -> None:
        """The head's forward and backward pass."""
        many = context.clients
        how: Arguments = dict(backend=context.backend, precision=context.precision)
        z, logits, dz = (t[:many] for t in (self._z, self._logits, self._dz))
        names = self.head.weight, self.head.bias
        weight, bias = (context.parameter(name) for name in names)
        kernels.linear(z, weight, bias, out=logits, **how)
        labels, counts = self._labels[:many], self._counts[:many]
        to: Arguments = dict(losses=losses, dlogits=logits, backend=context.backend)
        kernels.cross_entropy(logits, labels, counts, **to)
        sinks = [context.sink(name) for name in names]
        dweight, dbias = (None if sink is None else sink.out for sink in sinks)
        own: Arguments = dict(dx=dz, dweight=dweight, dbias=dbias)
        kernels.linear_backward(z, weight, logits, logits, **own, **how)

    def add_up(self, h: Tensor, objective: Bottleneck, batch: Minibatch, backend: str) -> None:
        """Behind a pass: the Gaussians of clients in their last epoch, by class. h: [K, B, 2 D]"""
        kernels.sum_gaussians(
            h,
            batch.y,
            batch.count,
            objective.last,
            alpha=self.head.sampling.alpha,
            precision=objective.precision,
            pull=objective.pull,
            backend=backend,
        )
