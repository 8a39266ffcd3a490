"""What Pyro does in Python is done once: tensor operations of one run, recorded, and replayed in its place.

Each recording is held against Pyro's own run before it is believed. `operations` is how all record and `compiling` makes machine
code of it; `weights` records a block of log-weights, `slopes` a density and its gradient in the latents, and
`pyrovae.training.recording` a step of SVI.
"""
