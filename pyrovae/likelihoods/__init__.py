"""Families p(x|z), from decoder outputs (`Likelihood`) or one density per class (`MixtureComponents`)."""
