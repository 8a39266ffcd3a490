"""Density: a pair as an estimator of scikit-learn."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin
from sklearn.utils import TransformerTags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from ..data.columns import check_not_constant, few_values, few_values_message
from ..data.files import is_binary
from ..errors import InvalidInputError, did_you_mean
from ..estimators.exact import exact_log_likelihood
from ..evaluation.evaluating import evaluate
from ..evaluation.result import Evidence
from ..exploration.latent_space import LatentSpace
from ..loading.pairs import PairBuilder, load
from ..pair.execution import ModelOrGuide, modules
from ..pair.sampling import sample
from ..pair.structure import inspect_pair
from ..training import fit
from ..training.arguments import recipe_arguments
from ..utils.random import fork_rng

log = logging.getLogger("pyrovae")

EXPECTED_FAILED_CHECKS = {  # of `check_estimator`, for pairs that score by draws
    "check_methods_sample_order_invariance": "The draws of a row follow from the seed and from its place in X.",
    "check_methods_subset_invariance": "The draws of a row follow from the seed and from its place in X.",
}
PROBE_COLUMNS = 4  # of the pair that says, before there are data, whether its latents are continuous


def _has_encoder(density: "Density") -> bool:
    """Whether all latents that the guide draws are continuous: then points have encodings."""
    if hasattr(density, "guide_"):
        return density.num_latents_ > 0
    try:
        model, guide = density._build(PROBE_COLUMNS, binary=False)
        latents = inspect_pair(model, guide, torch.zeros(2, PROBE_COLUMNS), scored=False).latents
    except InvalidInputError:  # data of another kind are needed to tell
        return True
    drawn = [latent for latent in latents if not latent.summed_out]
    return bool(drawn) and not any(latent.discrete for latent in drawn)


class Density(ClassNamePrefixFeaturesOutMixin, DensityMixin, BaseEstimator):
    """A pair as an estimator of scikit-learn: fit, score_samples, score, sample, and an encoder where there is one.

    `score_samples(X)` is log p(x) of each row, nats: exact where the model knows it, else an estimate with a standard
    error of at most `tolerance`. `score(X)` is its mean, so that `GridSearchCV` and `cross_val_score` prefer the model
    that predicts held-out points best. Models compute in the precision of X: float32 is faster for networks.

    Args:
        model: The name of a pair, or the path of a file that defines one.
        epochs: Passes over the training points. Default: that of the model.
        batch_size: Points for each training step. Default: that of the model.
        lr: The learning rate at the start. Default: that of the model.
        init: "em" to start with EM, for models that have it.
        num_samples: Score by the K-sample bound with this many draws, in place of an estimate to a tolerance.
        tolerance: The largest standard error of log p(x) of a point, in nats.
        random_state: The seed of training and scoring; None draws one.
        **options: Options of the pair, such as `latent=8`. Texts are read as after `--set`.

    Attributes:
        model_, guide_: The trained pair.
        fit_result_: How training went, a `FitResult`.
        num_latents_: How many numbers `transform` gives; 0 where the pair has no continuous latents.
        n_features_in_, feature_names_in_: The columns of X.

    Raises:
        InvalidInputError: It is a ValueError. The model or an option is not known, or a column is constant.

    Example:
        >>> import pyrovae
        >>> from sklearn.datasets import load_iris
        >>> X = load_iris().data
        >>> density = pyrovae.Density("ppca", latent=2, epochs=5).fit(X[:100])
        >>> density.score_samples(X[100:]).shape, density.transform(X[100:]).shape
        ((50,), (50, 2))
    """

    def __init__(
        self,
        model: str = "gaussian",
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        init: str | None = None,
        num_samples: int | None = None,
        tolerance: float = 0.05,
        random_state: Any = 0,
        **options: Any,
    ):
        self.model, self.epochs, self.batch_size, self.lr, self.init = model, epochs, batch_size, lr, init
        self.num_samples, self.tolerance, self.random_state = num_samples, tolerance, random_state
        self._options = options

    # parameters: scikit-learn's own, and the pair's options beside them

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the estimator and the options of the pair that were given."""
        return {**super().get_params(deep), **self._options}

    def set_params(self, **params: Any) -> "Density":
        """Set parameters of the estimator, and options that the pair has.

        Raises `InvalidInputError`, a ValueError, for a name that is neither.
        """
        own = set(self._get_param_names())
        for name in own & params.keys():
            setattr(self, name, params[name])
        options = {name: value for name, value in params.items() if name not in own}
        for name in options.keys() - self._options.keys():
            known = load(self.model).options
            if name not in known:
                raise InvalidInputError(
                    f"{self.model} has no option '{name}'{did_you_mean(name, known)}; its options are {', '.join(known)}."
                )
        self._options = {**self._options, **options}
        return self

    # scikit-learn's verbs

    def fit(self, X: ArrayLike, y: Any = None) -> "Density":
        """Train the pair on the rows of X (N, D). `y` is ignored."""
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        x, names = torch.tensor(X), [str(name) for name in getattr(self, "feature_names_in_", ())]
        binary = is_binary(x)
        if not binary:
            check_not_constant(x, "X", names)
            if few := few_values(x):
                log.warning(few_values_message(few, names))
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            with fork_rng(x.device, self.seed_):
                model, guide = self._build(x.shape[1], binary)
        except InvalidInputError as error:
            raise InvalidInputError(f"{error} X has {x.shape[1]} feature(s).") from error
        for module in modules(model, guide):
            module.to(x)
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr, "init": self.init}
        arguments = recipe_arguments(load(self.model).recipe, len(x), **given)
        self.fit_result_ = fit(model, guide, x, seed=self.seed_, progress=False, **arguments)
        self.model_, self.guide_ = model, guide
        try:
            self.num_latents_ = LatentSpace(model, guide, x).size
        except InvalidInputError:  # it draws none, or discrete ones
            self.num_latents_ = 0
        return self

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Return log p(x) of each row of X (N, D): (N,), nats."""
        x = self._points(X)
        with torch.no_grad():
            exact = exact_log_likelihood(self.model_, x)
        found = exact if exact is not None else self._evaluate(x).log_likelihood
        return found.numpy().astype(np.float64)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean of log p(x) over the rows of X (N, D), nats per point. `y` is ignored."""
        return float(self.score_samples(X).mean())

    def evaluate(self, X: ArrayLike) -> Evidence:
        """Return the `Evidence` of the rows of X (N, D): log p(x) with standard errors and a reliability message."""
        return self._evaluate(self._points(X))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows from the model: (n_samples, D). Without a `random_state`, each call draws others."""
        check_is_fitted(self)
        like = self._like()
        with fork_rng(like.device, int(check_random_state(random_state).randint(2**31 - 1))):
            return sample(self.model_, n_samples, like).numpy()

    @available_if(_has_encoder)
    def transform(self, X: ArrayLike) -> np.ndarray:
        """Return E_q[z|x] of the rows of X (N, D): (N, num_latents_)."""
        x = self._points(X)
        return LatentSpace(self.model_, self.guide_, x).encode(x, self.seed_).numpy()

    @available_if(_has_encoder)
    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Return E[x|z] for rows of z, (N, num_latents_): (N, D)."""
        check_is_fitted(self)
        z = torch.tensor(check_array(X, dtype=(np.float64, np.float32)))
        space = LatentSpace(self.model_, self.guide_, self._like())
        with torch.no_grad():
            return space.decode(z).numpy()

    @available_if(_has_encoder)
    def fit_transform(self, X: ArrayLike, y: Any = None) -> np.ndarray:
        """Train on X (N, D), and return E_q[z|x] of its rows."""
        return self.fit(X, y).transform(X)

    @property
    def _n_features_out(self) -> int:
        return self.num_latents_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if hasattr(self, "transform"):
            tags.transformer_tags = TransformerTags(preserves_dtype=["float64", "float32"])
        return tags

    # the pair

    def _build(self, dim: int, binary: bool) -> tuple[ModelOrGuide, ModelOrGuide]:
        builder = load(self.model)
        return builder(dim, **_parsed(builder, self._options, binary))

    def _points(self, X: ArrayLike) -> Tensor:
        check_is_fitted(self)
        x = torch.tensor(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        return x.to(self._like().dtype)

    def _like(self) -> Tensor:
        """A row of zeros in the precision of the pair."""
        parameters = (part for module in modules(self.model_, self.guide_) for part in module.parameters())
        dtype = next((part.dtype for part in parameters), torch.float64)
        return torch.zeros(2, self.n_features_in_, dtype=dtype)

    def _evaluate(self, x: Tensor) -> Evidence:
        tolerance = None if self.num_samples is not None else self.tolerance
        return evaluate(self.model_, self.guide_, x, self.num_samples, self.seed_, tolerance=tolerance, progress=False)


def _parsed(builder: PairBuilder, options: Mapping[str, Any], binary: bool) -> dict[str, Any]:
    """Options with those that are texts read as on the command line; of binary x, the Bernoulli where it can be chosen."""
    texts = [f"{name}={value}" for name, value in options.items() if isinstance(value, str)]
    if binary and "likelihood" in builder.options and "likelihood" not in options:
        texts.append("likelihood=Bernoulli")
    return {**options, **builder.parse(texts)}
