"""Diagnostics of the latent space: active units, I(n; z), KL(q(z) ‖ p(z)), holes in the prior.

`diagnosing` is the verb `diagnose`, `result` what it returns. `posterior_statistics` collects what each batch of draws says,
`active_units` measures the means and the classes, `aggregate_posterior` evaluates q(z), `prior_holes` looks for holes.

Estimates of log p(x) belong in `estimators`. To add a diagnostic: compute it in a file of its own, call that from `diagnose`, and
add a field to `LatentDiagnostics`.
"""
