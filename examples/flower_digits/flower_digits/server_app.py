"""The ServerApp: Flower's quickstart, whose grid is replaced by one line."""

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedfast.integrations.flower import FastGrid

from .client_app import app as client_app
from .task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """FedAvg."""
    grid = FastGrid(grid, client_app, context)
    strategy = FedAvg(fraction_evaluate=context.run_config["fraction-evaluate"])
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        train_config=ConfigRecord({"lr": context.run_config["learning-rate"]}),
        num_rounds=context.run_config["num-server-rounds"],
    )
