"""JAX by hand: `vmap` over the cohort's clients, a `scan` over their steps, all under one `jit`."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from . import jax_model
from .protocol import Rounds, Task, serve

EPS = 1e-12


def added(a, b, scale=1.0):
    """`a + scale b`, leaf by leaf."""
    return jax.tree.map(lambda p, q: p + scale * q, a, b)


class VmapRounds(Rounds):
    """A round is one compiled call; client variates [N, ...] stay on the device."""

    def __init__(self, task: Task, algorithm: str, setting: str) -> None:
        self.task, self.losses = task, jax_model.losses(task.model)
        self.samples = jnp.asarray(task.x), jnp.asarray(task.y, jnp.int32)
        self.w = [jnp.asarray(w) for w in task.weights]
        self.c = jax.tree.map(jnp.zeros_like, self.w)
        self.kept = [jnp.zeros((task.clients, *w.shape)) for w in self.w]
        self.chunk = task.cohort if setting.startswith("all") else int(setting.split()[0])
        self.scaffold = algorithm == "scaffold"
        self.compiled = (
            jax.jit(partial(self.variates, algorithm), donate_argnums=(0, 1))
            if self.scaffold
            else jax.jit(partial(self.cohort, algorithm, None, None))
        )

    def gradient(self, algorithm: str, w, start, c, own, x, y):
        """The direction of one local step."""
        mean_gradient = jax.grad(lambda params: self.losses(params, x, y).mean())
        g = mean_gradient(w)
        if algorithm == "fedprox":
            return jax.tree.map(lambda g, p, q: g + self.task.mu * (p - q), g, w, start)
        if algorithm == "fedsam":
            norm = jnp.sqrt(sum((leaf**2).sum() for leaf in g))
            return mean_gradient(added(w, g, self.task.rho / (norm + EPS)))
        if algorithm == "scaffold":
            return added(added(g, c), own, -1.0)
        return g

    def cohort(self, algorithm: str, c, own, w, samples, rows):
        """The mean of the cohort's models; all of them [K, ...] with variates. rows [K, T, B]."""

        def client(own, rows):
            def local(params, batch):
                x, y = (part[batch] for part in samples)
                g = self.gradient(algorithm, params, w, c, own, x, y)
                return added(params, g, -self.task.lr), None

            return jax.lax.scan(local, w, rows)[0]

        # as vmap does, but `chunk` clients at a time
        models = jax.lax.map(lambda pair: client(*pair), (own, rows), batch_size=self.chunk)
        return models if own is not None else [m.mean(0) for m in models]

    def variates(self, algorithm: str, kept, c, w, samples, ids, rows):
        """SCAFFOLD, option II: the new c_i [N, ...], c and w."""
        own = [k[ids] for k in kept]
        models = self.cohort(algorithm, c, own, w, samples, rows)
        scale = 1.0 / (rows.shape[1] * self.task.lr)
        moved = [(p - m) * scale - q for p, m, q in zip(w, models, c, strict=True)]
        kept = [k.at[ids].add(d) for k, d in zip(kept, moved, strict=True)]
        c = [q + d.sum(0) / self.task.clients for q, d in zip(c, moved, strict=True)]
        return kept, c, [m.mean(0) for m in models]

    def round(self, t):
        ids = self.task.cohorts[t]
        rows = ids[:, None, None] * self.task.samples + self.task.batches[t]
        self.task.count(len(ids), rows.size, rows.shape[0] * rows.shape[1])
        if self.scaffold:
            self.kept, self.c, self.w = self.compiled(
                self.kept, self.c, self.w, self.samples, ids, rows
            )
        else:
            self.w = self.compiled(self.w, self.samples, rows)
        jax.block_until_ready(self.w)

    def weights(self):
        return [np.array(w) for w in self.w]


def start(task: Task, algorithm: str, setting: str) -> Rounds:
    """All four; XLA takes all cores, whatever is set."""
    return VmapRounds(task, algorithm, setting)


if __name__ == "__main__":
    serve(Task(sys.argv[1]), start, ("jax", "jaxlib"))
