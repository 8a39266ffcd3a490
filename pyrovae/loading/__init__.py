"""From a name, a file or trained networks to a (model, guide) pair, and from text to its options.

`pairs.py` has `load` and `available`, and `networks.py` has `from_networks`. `options.py` reads texts such as
`guide=MeanField`. `registry.py` says which classes an option takes, and `user_files.py` runs a user's own file.
Nothing here trains or evaluates.

To add a built-in model: put a file into `models/`, whose docstring begins with the equation and which defines
`pair(dim, **options)`. `load` finds it by its name. To add a kind of option that takes classes by name: add it to
`KINDS` and `classes_of` in `registry.py`.
"""
