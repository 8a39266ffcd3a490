"""A run folder: config.json, checkpoints, metrics.csv and copies of the user's own files.

run.py prepares, trains, resumes and loads a run. config.py holds its settings in plain JSON types. folder.py makes,
writes and reads the folder. metrics.py writes a row for each epoch. Nothing here computes: training is `training`'s,
log p(x) is `evaluation`'s, and messages on the terminal are the command line's. To add a setting of `fit`, put its
plain value into `Config.fit_arguments` and parse it in `parse_fit_arguments`; a change of what config.json means
raises `FORMAT`.
"""
