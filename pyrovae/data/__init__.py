"""Data sets as tensors, and transforms that carry their base measure and log-Jacobian.

`datasets` loads data by name or from a file, splits them and transforms them. `builtin` holds the data sets with a name, and `raw`
what a source gives. `files` reads files. `transforms` holds the maps from pixels to x, and `stochastic` data that are drawn anew at every use.
Nothing here knows a model. To add a transform, subclass `Transform` and name it in `TRANSFORMS`; to add a data set, extend `builtin`.
"""
