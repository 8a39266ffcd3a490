"""Figures of results. They compute nothing that a result does not hold."""
