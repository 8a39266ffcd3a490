"""q(z|x) = Π_i StudentT_5(μ_i(x), σ_i(x)): where a posterior's tails are wider than a Gaussian's, no weight runs away."""

import pyro.distributions as dist

import pyrovae


class HeavyTails(pyrovae.guides.MeanField):
    def distribution(self, outputs):  # of the encoder: as many as MeanField's
        loc, rho = outputs.chunk(2, dim=-1)
        return dist.StudentT(5.0, loc, pyrovae.guides.positive(rho)).to_event(1)
