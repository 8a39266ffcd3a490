"""The posterior p(z|x) of each point: its unnormalised density, and approximations fitted point by point."""
