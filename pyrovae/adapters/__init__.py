"""pyrovae in the shape that other programs expect: `density` has an estimator of scikit-learn, others log trainings or write files.

An adapter computes nothing of its own. `Density` calls `fit` and `evaluate`. The loggers are callbacks of `fit`, and import their
program when they are made. To add one, write a file with a class that derives from `MetricsLogger`. Test it with the other program.
"""

from ..utils.namespaces import collect
from .density import Density
from .lightning_loggers import LightningLogger
from .metrics_logger import MetricsLogger
from .mlflow_runs import MLflow
from .onnx_files import save_onnx
from .safetensors_files import load_safetensors, save_safetensors
from .tensorboard import TensorBoard
from .weights_and_biases import WandB

__all__ = [
    "Density",
    "LightningLogger",
    "MLflow",
    "MetricsLogger",
    "TensorBoard",
    "WandB",
    "load_safetensors",
    "save_onnx",
    "save_safetensors",
]
__all__ += collect(globals())  # and what other files of this folder define
