"""Many runs from one config: a grid, or a search by Optuna, under several seeds."""
