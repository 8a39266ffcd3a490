"""Tensor operations of a recorded graph: replayed one after another, or compiled.

graph.py records a function. constants.py turns the constants that a recorded graph has captured into inputs, and simplification.py
leaves out what changes nothing. replaying.py writes a graph as one flat Python function. compiling.py compiles it and, on a GPU,
captures it as one launch; it raises `CompilationError` where that cannot be done. Nothing here knows a model, a guide or Pyro. What
is recorded, and the comparison with the eager run, belongs to the caller: `training` for steps, `estimators` for log-weights,
`posterior` for densities. To add a rewriting of graphs, write a function of a `GraphModule` in a file of its own.
"""
