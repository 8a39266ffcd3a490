"""Data sets as tensors, and transforms that carry their base measure and log-Jacobian."""
