"""The data sets that scikit-learn ships. Those of classes are read from its files: its packages take long to import."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.experiment.console.packages import missing
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.table import Table

CELL = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip
# What the files do not say.
FEATURES = {
    "iris": ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
    "wine": (
        "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
        "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline",
    ),
    "breast_cancer": (
        *(f"mean {of}" for of in CELL), *(f"{of} error" for of in CELL), *(f"worst {of}" for of in CELL),
    ),
}  # fmt: skip
FILES = {"iris": "iris.csv", "wine": "wine_data.csv", "breast_cancer": "breast_cancer.csv"}


def digits(name: str) -> Table:
    """1,797 images of 8 x 8 pixels from 0 to 16."""
    read = np.loadtxt(_folder() / "digits.csv.gz", delimiter=",")
    features = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    x = InMemory(read[:, :-1].reshape(-1, 8, 8))
    return Table(name, x, read[:, -1].astype(int).astype(str), features, ("class",), image=True)


def of_classes(name: str) -> Table:
    """Rows of numbers, the last the number of a class; the first row has the classes' names behind two counts."""
    with (_folder() / FILES[name]).open(encoding="utf-8") as file:
        (_, _, *classes), *rows = csv.reader(file)
    read = np.array(rows, np.float64)
    y = np.array(classes)[read[:, -1].astype(int)]
    return Table(name, InMemory(read[:, :-1]), y, FEATURES[name], ("class",))


def of_values(name: str) -> Table:
    """Targets that are numbers, with features as scikit-learn makes them of its files."""
    import sklearn.datasets

    bunch: Any = getattr(sklearn.datasets, f"load_{name}")()
    features = tuple(str(feature) for feature in bunch.feature_names)
    y = np.asarray(bunch.target, np.float64).reshape(len(bunch.data), -1)
    names = tuple(bunch.target_names) if name == "linnerud" else ("disease progression",)
    return Table(name, InMemory(np.asarray(bunch.data, np.float64)), y, features, names)


def _folder() -> Path:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(missing("sklearn"), name="sklearn")
    return Path(found.origin).parent / "datasets" / "data"
