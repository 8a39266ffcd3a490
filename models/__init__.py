"""The pairs: one file a model, found by its name, written with pyrovae's public names only."""
