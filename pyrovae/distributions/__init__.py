"""`TorchDistribution`s that Pyro and torch lack, each with the reason it exists."""
