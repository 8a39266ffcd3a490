"""What a user asks for: `evaluate`, `compare` and `gap`, each with its result class.

`evaluating` estimates log p(x) of every point. `reliability` says in a sentence whether the estimate can be relied on.
`distilling` trains a guide on the posterior. `comparing` compares models on the same points. `gap_decomposition` splits the gap between log p(x) and the ELBO.

The estimators themselves are in `estimators`, tables in `tables`, figures in `plots`. To add a question: write a file with the
function and its result, which derives from `statistics.result.PointwiseResult` if it holds a number for each point.
"""
