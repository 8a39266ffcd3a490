"""The contract. A pair is `model(x)` and `guide(x)` that name the same latents inside `plate("data")`.

This folder runs a pair, inspects its sites, rejects pairs without per-point weights, and computes `log_weights`. It is the only
folder that traces and replays for evidence.
"""
