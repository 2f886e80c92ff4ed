"""Simulators side by side: each in a process and an environment of its own, see bench/README.md.

environments.py       the contestants: packages, versions, what each needs
contestant.py         the parent's end of a contestant's process
protocol.py           the child's end; all that the scripts of peers share
torch_model.py, jax_model.py   the models, for peers that have no fedfast
everything else       one script per peer
"""
