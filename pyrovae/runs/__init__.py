"""A run folder: config, checkpoints, metrics; prepare, train, resume, load."""
