"""What happens around a bundle: data sets, tracking, evaluation, prediction and the command line."""

import os

# MLflow reports how it is used to its makers unless told otherwise. Nothing of a hospital's work leaves it unasked.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
