"""How hard a config's split is for personal models, draw by draw, without a federated round.

    python examples/split_difficulty.py CONFIG [--draws 20] [--field value ...]

The data are cut in halves, and each is evaluated by a classifier that was trained on the other. On
a client's samples it gets the client's class shares p: it answers argmax_c (logit_c + log p_c).
The mean over clients is what the draw of the split alone lets personal models reach, so that the
spread over draws says how far one seed's result may lie from another's.

Printed: the config's own seed, then mean and standard deviation over `--draws` other seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import fedfast
from fedfast import config
from fedfast.cli.setting import prepare


def logits(samples, model, steps=2000):
    """Of every sample `[n, classes]`, by the model that was trained on the half without it."""
    x, y = samples.x, samples.y
    x = x if x.is_floating_point() else x / 255
    halves = np.array_split(np.random.default_rng(0).permutation(len(y)), 2)
    made = []
    for train, rest in (halves, halves[::-1]):
        own = fedfast.FederatedData.from_arrays([x[train]], [y[train]])
        epochs = max(4, 50 * steps // len(train))
        settings = {"batch_size": 50, "lr": 0.1, "lr_decay": 0.1 ** (1 / epochs), "threads": 1}
        sim = fedfast.Simulation(model, own, "fedavg", rounds=epochs, **settings)
        sim.run(progress=False)
        module = sim.model().eval()
        with torch.no_grad():
            made.append(torch.cat([module(x[part]) for part in np.array_split(rest, 40)]))
    order = torch.from_numpy(np.concatenate(halves[::-1]))
    return torch.cat(made)[order.argsort()]


def difficulty(clients, logits):
    """Mean accuracy over clients, in percent, of a classifier that knows their class shares."""
    shares = torch.from_numpy(clients.counts()).float()
    found = []
    for i, prior in enumerate(F.normalize(shares, p=1, dim=1).log()):
        rows = clients.order[clients.offsets[i] : clients.offsets[i + 1]]
        found.append(((logits[rows] + prior).argmax(dim=1) == clients.y[rows]).float().mean())
    return 100 * float(torch.stack(found).mean())


def report(read, draws):
    """The line that is printed."""
    setting, options = prepare(read), read.partition_options()
    samples = setting.data.train
    found = logits(samples, setting.model)

    def draw(seed):
        dealt = fedfast.data.partition(read.partition.name, samples, **options | {"seed": seed})
        return difficulty(dealt, found)

    others = [draw(1000 + i) for i in range(draws)]
    spread = f"{np.mean(others):.2f}, deviation {np.std(others, ddof=1):.2f}"
    return f"seed {options['seed']}: {draw(options['seed']):.2f}; {draws} others: {spread}"


def main():
    about = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    about.add_argument("config", type=Path)
    about.add_argument("--draws", type=int, default=20, help="2 or more")
    given, flags = about.parse_known_args()
    try:
        if given.draws < 2:
            raise ValueError(f"--draws: expected 2 or more; got {given.draws}")
        print(report(config.load(given.config, flags), given.draws))
    except (ValueError, FileNotFoundError) as error:
        about.error(str(error))


if __name__ == "__main__":
    main()
