"""From the [data] section of a study file to splits."""

from __future__ import annotations

# Imported for their registration in the table.
from autoprune.config import DataConfig
from autoprune.data import digits, imagefolder, vision  # noqa: F401
from autoprune.data.registry import build_named
from autoprune.data.splits import Splits, size_of
from autoprune.errors import DataError
from autoprune.importing import import_function


def load_splits(config: DataConfig) -> Splits:
    """The splits that the configuration names: a dataset of the table or "package.module:function".

    Such a function is called with the DataConfig and returns Splits or a triple of datasets: calibration,
    validation and test. ConfigError for an unknown name, DataError for data that is missing, empty or unfit.
    """
    splits = _imported(config) if ":" in config.dataset else build_named(config)
    for name in ("calibration", "validation", "test"):
        if size_of(getattr(splits, name), name) == 0:
            raise DataError(f"the {name} split of '{config.dataset}' must hold images, but is empty")
    return splits


def _imported(config: DataConfig) -> Splits:
    function = import_function(config.dataset, "dataset", DataError)
    try:
        answer = function(config)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"dataset '{config.dataset}' failed: {type(error).__name__}: {error}") from error
    if isinstance(answer, Splits):
        return answer
    if isinstance(answer, tuple) and len(answer) == 3:
        calibration, validation, test = answer
        return Splits(calibration=calibration, validation=validation, test=test)
    raise DataError(
        f"dataset '{config.dataset}' must return Splits or (calibration, validation, test), "
        f"got {type(answer).__name__}"
    )
