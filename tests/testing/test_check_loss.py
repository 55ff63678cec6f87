import jax
import pytest
from broken import BROKEN_LOSSES, EXAMPLES, INPUTS

from jaxnet.testing import check_loss

pytestmark = pytest.mark.usefixtures("without_shape_annotations")


@pytest.mark.parametrize("mistake", BROKEN_LOSSES)
def test_a_broken_loss_is_caught_and_told(mistake, key):
    loss, told = BROKEN_LOSSES[mistake]
    z, y = jax.random.normal(key, (EXAMPLES, INPUTS)), jax.random.uniform(key, (EXAMPLES, INPUTS))
    with pytest.raises(AssertionError) as error:
        check_loss(loss, z, y)
    assert str(error.value).startswith("check_loss: ")
    assert told in str(error.value)
