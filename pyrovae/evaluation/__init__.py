"""What a user asks for: `evaluate`, `compare`, `choose` and `gap`, each with its result class.

`evaluating` estimates log p(x) of every point. `reliability` says in a sentence whether the estimate can be relied on.
`comparing` compares models on the same points, and `repeated_trainings` averages trainings of one pair. `deciding` orders
models with an error rate. `choosing` compares one pair under several values of an option.
`distilling` trains a guide on the posterior. `gap_decomposition` splits the gap between log p(x) and the ELBO.

The estimators themselves are in `estimators`, tables in `tables`, figures in `plots`. To add a question: write a file with the
function and its result, which derives from `statistics.result.PointwiseResult` if it holds a number for each point.
"""
