"""Helpers that know nothing of models: atomic file writes, random state, provenance metadata, process groups, export."""
