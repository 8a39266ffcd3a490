"""Estimates and bounds of log p(x) beyond importance weights, and where their gap comes from: a file for each."""
