"""What scikit-learn itself asks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import check_estimator

from jaxnet.estimator import Classifier, Regressor

# Small, as the checks fit a hundred times.
SMALL = {"hidden": (16,), "learning_rate": 0.02, "epochs": 20}
# What it does not ask where there is no pandas, or no array API switched on.
SKIPPED = {"check_sample_weights_pandas_series", "check_array_api_input"}


@pytest.mark.usefixtures("optax_promotion", "without_shape_annotations")
@pytest.mark.parametrize("estimator", [Classifier(**SMALL), Regressor(**SMALL)], ids=repr)
def test_it_passes_all_of_scikit_learns_checks(estimator):
    asked = check_estimator(estimator, on_skip=None)
    kind = type(estimator).__name__.lower()
    skipped = {one["check_name"] for one in asked if one["status"] == "skipped"}
    assert len(asked) >= 60
    assert skipped <= SKIPPED | {f"check_{kind}_data_not_an_array"}
