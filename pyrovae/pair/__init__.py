"""The contract: a pair is `model(x)` and `guide(x)` that name the same latents inside `plate("data")`.

This folder runs a pair without side effects, inspects its sites, rejects pairs without a weight per point, and computes
`log_weights`. Estimators and diagnostics are built on these functions. Nothing here trains a pair, or knows a family of guides,
likelihoods or priors. To reject a further kind of pair, add a check with one sentence to validation.py and call it in
`inspect_pair`. To expose a further property of a pair, add a field to `Structure`.
"""
