"""Helpers that know nothing of models: atomic file writes, random state, process groups, provenance, export, matmul precision.

A helper belongs here if two folders need it and it takes only tensors, numbers, paths or devices. It may import `errors` and
other helpers, and nothing else of pyrovae. A function that takes a model, a guide or a trace belongs in `pair`. To
add one, write a file that is named after its subject.
"""
