"""Every method written down from its paper in plain autograd, to hold the engine against.

One function per method, (run, its parameters) -> the server's weights after every round
[T, P] float64. They share `run.Run` (data, batches, what a run fixes), the gradients of
`gradients` and the server steps of `servers`, and nothing with fedfast.
"""
