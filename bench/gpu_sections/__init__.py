"""The sections of the campaign on a GPU, `bench/gpu.py`; each has a function `run(campaign)`."""
