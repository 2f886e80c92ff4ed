"""The app in this process, without Ray: python run_without_ray.py"""

from pathlib import Path

from flower_digits.client_app import app as client_app
from flower_digits.server_app import app as server_app

from fedfast.integrations.flower import run_simulation

if __name__ == "__main__":
    run_simulation(server_app, client_app, num_supernodes=20, app_dir=Path(__file__).parent)
