"""What Pyro does in Python is done once: tensor operations of one run, recorded, and replayed in its place.

Each recording is held against Pyro's own run before it is believed. `lifting` finds what they knew besides their inputs, and
`compiling` makes machine code of them; `weights` records a block of log-weights and `fast` says when, `slopes` a density and its
gradient in the latents, and `pyrovae.training.compiled_step` a step of SVI.
"""
