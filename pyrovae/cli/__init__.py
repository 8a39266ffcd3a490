"""The `pyrovae` command. `commands/` has one file per command; a command parses, calls the library, prints.

What several commands share lives here: `options.py` (options), `common.py` (open a run, train with a progress bar), `output.py`
(files, tables, progress bars) and `errors.py` (one sentence and an exit code). Nothing here computes a result: whatever the
command line prints can be had from Python. No module here imports torch, matplotlib or rich at its top, because every
command would wait for them. Import such a library inside the function that uses it.
"""
