"""Families p(z) for models with a continuous latent."""
