"""``scan.loss(xs, targets, fn)``: a loss over a sequence that is longer than memory, and its exact gradients.

Inputs are read piece by piece, outputs are never whole, and what is kept is what the plan keeps (``_replay._plan``).
"""
