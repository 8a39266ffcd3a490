"""The `pyrovae` command. `commands/` has one file per command; a command parses, calls the library, prints.

What several commands share lives here. `options.py` has options. `common.py` opens a run and trains with a progress bar.
`output.py` writes files, tables and progress bars. `errors.py` turns an error into one sentence and an exit code. Nothing here computes a result: whatever the
command line prints can be had from Python. No module here imports torch, matplotlib or rich at its top, because every
command would wait for them. Import such a library inside the function that uses it.
"""
