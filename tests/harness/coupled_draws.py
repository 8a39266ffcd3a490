"""Upper bounds from exact draws of the posterior, which coupled chains are compared with."""

import math

import torch


def with_exact(log_w0, log_w):
    """log (w(z₀) + Σ_{k<K} w_k) / K from exact draws z₀ (N,) and others (K − 1, N)."""
    return torch.logaddexp(log_w0, log_w.logsumexp(0)) - math.log(len(log_w) + 1)


def standard_errors_apart(a, b):
    """The difference of two independent means, in standard errors of it."""
    return float((a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt())
