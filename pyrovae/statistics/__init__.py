"""Functions of log-weights (samples, N) in nats: ELBO, log p̂(x), errors, ESS, Pareto k̂, bound curve. No Pyro."""
