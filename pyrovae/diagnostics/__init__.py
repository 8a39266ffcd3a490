"""Latent-space diagnostics: active units, I(n; z), KL(q(z)‖p(z)), prior holes."""
