"""Statistics of log-weights and of per-point numbers, in nats.

Functions take log-weights of shape (samples, N) and return one number for each point. These are the ELBO, log p̂(x), standard errors,
the effective sample size, Pareto k̂ and the bound curve. `streaming` computes the same from blocks of samples. `estimate` averages over
points. `paired_tests` says which of several models may be the best. `result` is the base class of all results.

Nothing here knows Pyro, a model or a guide. To add a statistic: write the function in `log_weights`, and add its value to
`streaming.StreamingStatistics.statistics` if `evaluate` shall report it.
"""
