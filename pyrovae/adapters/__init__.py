"""Pairs in the shape that other libraries expect: `density` has an estimator of scikit-learn.

It computes nothing of its own. To add an adapter, write a file that calls `fit` and `evaluate`, and name it after what it makes. Test it by
the other library's own checks.
"""
