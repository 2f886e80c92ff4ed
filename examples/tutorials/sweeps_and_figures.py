# %% [markdown]
# # Sweeps and figures
#
# One run says little: accuracies of one algorithm differ from seed to seed as much as algorithms
# differ from each other. A paper's table has the mean and the standard deviation over seeds. Here
# a small sweep goes from a config to such a table and to figures, through the command line, which
# is a function in Python.

# %%
from pathlib import Path

import fedfast
from fedfast.cli import main as fedfast_command

Path("small.yaml").write_text(
    """
data: {name: digits}
partition: {name: dirichlet, clients: 20, alpha: 0.3}
model: {name: mlp, hidden: [32]}
algorithms: {fedavg: {}, fedsam: {rho: 0.1}}
rounds: 10
participation: 0.5
batch_size: 20
lr: 0.2
threads: 1
""",
    encoding="utf-8",
)

# %% [markdown]
# ## All combinations
#
# Two seeds, two degrees of skew, two algorithms: eight runs. The same command again goes on where
# it was stopped or killed, and trains nothing twice. `--jobs 4` trains four rows at a time.

# %%
sweep = "sweep small.yaml --seeds 0,1 --grid partition.alpha=0.1,1.0 --jobs 1 --out sweep"
assert fedfast_command(sweep.split()) == 0

# %% [markdown]
# ## A table
#
# Groups are runs that differ in the seed alone. Differences to the baseline are paired: under one
# seed both algorithms see the same split, the same clients and the same batches. The table for a
# paper is `fedfast compare sweep --out table.tex`.

# %%
found = fedfast.compare("sweep", baseline="fedavg", last=3)
print(found.to_markdown())

# %% [markdown]
# ## Figures
#
# In the width of one column (PNG here, PDF too by default): curves with a band over the seeds, and
# one HTML page that holds them and asks nobody for anything.

# %%
assert fedfast_command("report sweep --out figures --format png".split()) == 0
print(*sorted(path.name for path in Path("figures").iterdir()), sep="\n")

# %% [markdown]
# Rows are run folders: `fedfast resume sweep` goes on with all, and
# `fedfast.history.read_runs("sweep/.../history.csv")` has every round of one.
