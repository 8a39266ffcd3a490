"""Tables of results in the terminal, and the sentences that advise what to do next.

One file for each result: `comparison`, `annealing`, `mode_sampling`, `gap`, `diagnosis`. A table shows `result.rows()` and computes nothing that
the result does not hold. To add one: write a file with `show(result, console)`.
"""
