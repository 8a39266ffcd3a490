"""pyrovae: latent-variable models as Pyro model/guide pairs, with a log p(x) that can be believed.

A pair is two callables, `model(x)` and `guide(x)`, that name the same latents inside `plate("data")`. Training, evidence,
comparison and the command line know nothing else of it.

Functions and their types are at the top: `pyrovae.fit`, `pyrovae.evaluate`. Families are in namespaces: `pyrovae.guides.MeanField`.
Each name is imported at its first use, so that `import pyrovae` costs nothing. The imports below are for type checkers.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .utils.notebook import RENDERERS

if TYPE_CHECKING:
    from . import adapters as adapters
    from . import distributions as distributions
    from . import estimators as estimators
    from . import exploration as exploration
    from . import guides as guides
    from . import likelihoods as likelihoods
    from . import nn as nn
    from . import objectives as objectives
    from . import plots as plots
    from . import posterior as posterior
    from . import priors as priors
    from .adapters.density import Density as Density
    from .data import transforms as transforms
    from .data.datasets import Data as Data
    from .data.datasets import load_data as load_data
    from .data.shards import Shards as Shards
    from .diagnostics.diagnosing import diagnose as diagnose
    from .errors import InvalidInputError as InvalidInputError
    from .errors import NonFiniteError as NonFiniteError
    from .errors import RunError as RunError
    from .estimators.annealing import ais as ais
    from .estimators.bidirectional import bdmc as bdmc
    from .estimators.bidirectional import reverse_iwae as reverse_iwae
    from .evaluation.annealing_comparison import compare_annealing as compare_annealing
    from .evaluation.choice import Choice as Choice
    from .evaluation.choosing import choose as choose
    from .evaluation.comparing import compare as compare
    from .evaluation.comparison import Comparison as Comparison
    from .evaluation.deciding import Decision as Decision
    from .evaluation.deciding import decide as decide
    from .evaluation.distilling import distil as distil
    from .evaluation.evaluating import evaluate as evaluate
    from .evaluation.gap_decomposition import gap as gap
    from .evaluation.imputing import impute as impute
    from .evaluation.result import Evidence as Evidence
    from .loading.networks import from_networks as from_networks
    from .loading.pairs import available as available
    from .loading.pairs import load as load
    from .nn import MLP as MLP
    from .nn import Module as Module
    from .nn import over_batch as over_batch
    from .pair.global_latents import condition_on_globals as condition_on_globals
    from .pair.importance_weights import log_weights as log_weights
    from .pair.sampling import sample as sample
    from .posterior.refinement import refine as refine
    from .runs.run import Run as Run
    from .runs.run import load_run as load_run
    from .statistics.log_weights import elbo as elbo
    from .statistics.log_weights import ess as ess
    from .statistics.log_weights import log_likelihood as log_likelihood
    from .testing import check_pair as check_pair
    from .training import schedules as schedules
    from .training.callbacks import Callback as Callback
    from .training.checkpoints import Checkpoints as Checkpoints
    from .training.early_stopping import EarlyStopping as EarlyStopping
    from .training.em import EM as EM
    from .training.fitting import fit as fit
    from .training.result import FitResult as FitResult

    __version__: str

NAMESPACES = {
    "adapters": ".adapters",
    "distributions": ".distributions",
    "estimators": ".estimators",
    "exploration": ".exploration",
    "guides": ".guides",
    "likelihoods": ".likelihoods",
    "nn": ".nn",
    "objectives": ".objectives",
    "plots": ".plots",
    "posterior": ".posterior",
    "priors": ".priors",
    "schedules": ".training.schedules",
    "transforms": ".data.transforms",
}
_MODULES = {  # the module that defines each name
    "EM": ".training.em",
    "MLP": ".nn",
    "Callback": ".training.callbacks",
    "Checkpoints": ".training.checkpoints",
    "Choice": ".evaluation.choice",
    "Comparison": ".evaluation.comparison",
    "Data": ".data.datasets",
    "Decision": ".evaluation.deciding",
    "Density": ".adapters.density",
    "EarlyStopping": ".training.early_stopping",
    "Evidence": ".evaluation.result",
    "FitResult": ".training.result",
    "InvalidInputError": ".errors",
    "Module": ".nn",
    "NonFiniteError": ".errors",
    "Run": ".runs.run",
    "RunError": ".errors",
    "Shards": ".data.shards",
    "ais": ".estimators.annealing",
    "available": ".loading.pairs",
    "bdmc": ".estimators.bidirectional",
    "check_pair": ".testing",
    "choose": ".evaluation.choosing",
    "compare": ".evaluation.comparing",
    "compare_annealing": ".evaluation.annealing_comparison",
    "condition_on_globals": ".pair.global_latents",
    "decide": ".evaluation.deciding",
    "diagnose": ".diagnostics.diagnosing",
    "distil": ".evaluation.distilling",
    "elbo": ".statistics.log_weights",
    "ess": ".statistics.log_weights",
    "evaluate": ".evaluation.evaluating",
    "fit": ".training.fitting",
    "from_networks": ".loading.networks",
    "gap": ".evaluation.gap_decomposition",
    "impute": ".evaluation.imputing",
    "load": ".loading.pairs",
    "load_data": ".data.datasets",
    "load_run": ".runs.run",
    "log_likelihood": ".statistics.log_weights",
    "log_weights": ".pair.importance_weights",
    "over_batch": ".nn",
    "refine": ".posterior.refinement",
    "reverse_iwae": ".estimators.bidirectional",
    "sample": ".pair.sampling",
}

_HTML = {  # the function of `report.notebook` that shows an object of each class in a notebook
    "Choice": "choice_html",
    "Comparison": "comparison_html",
    "Data": "data_html",
    "Evidence": "evidence_html",
    "FitResult": "fit_html",
    "PairBuilder": "pair_html",
}


def _html_by(function: str) -> Callable[[Any], str]:
    """Import the function at its first use."""
    return lambda result: getattr(import_module(".report.notebook", __name__), function)(result)


RENDERERS.update({name: _html_by(function) for name, function in _HTML.items()})

__all__ = [*_MODULES, *NAMESPACES]

if not (Path(__file__).parent / "models").exists():  # in a clone the models stand beside this folder
    __path__.append(str(Path(__file__).parent.parent))

if not TYPE_CHECKING:  # a type checker reads the imports above, and so refuses a name that does not exist

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use (PEP 562)."""
        value: Any
        if name in _MODULES:
            value = getattr(import_module(_MODULES[name], __name__), name)
        elif name in NAMESPACES:
            value = import_module(NAMESPACES[name], __name__)
        elif name == "__version__":
            from importlib.metadata import version

            value = version("pyrovae")
        else:
            raise AttributeError(f"module 'pyrovae' has no attribute '{name}'")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
