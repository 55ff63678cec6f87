import jax
import pytest
from broken import BROKEN_LAYERS, BROKEN_LOSSES, EXAMPLES

import jaxnet as jn
from jaxnet.testing import check_network

pytestmark = pytest.mark.usefixtures("without_shape_annotations")


@pytest.mark.parametrize("mistake", ["flipped sign", "factor 1/m", "examples mixed up", "right in float64 only"])
def test_a_network_with_a_broken_layer_is_caught(mistake, key):
    net = jn.chain(jn.dense(3, 3), BROKEN_LAYERS[mistake][0], jn.dense(4, 2))
    x, y = jax.random.normal(key, (EXAMPLES, 3)), jax.random.normal(key, (EXAMPLES, 2))
    with pytest.raises(AssertionError, match="^check_network: chain, "):
        check_network(net, jn.losses.half_squared_error, net.init(key), x, y)


@pytest.mark.parametrize("mistake", ["1/m", "sign", "zeros"])
def test_a_network_with_a_broken_loss_is_caught(mistake, key):
    net = jn.mlp((3, 4, 3), jn.tanh)
    x, y = jax.random.normal(key, (EXAMPLES, 3)), jax.random.uniform(key, (EXAMPLES, 3))
    with pytest.raises(AssertionError, match="^check_network: chain, the mean loss, float64:\n  grads"):
        check_network(net, BROKEN_LOSSES[mistake][0], net.init(key), x, y)
