"""Parameters of one's own in a file, by `jn.save` and `jn.restore`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from trees import assert_trees_equal

import jaxnet as jn

NET = jn.mlp((3, 4, 2), jn.tanh)


def test_a_training_state_of_every_type_comes_back_as_it_was(tmp_path, key):
    params = NET.init(key)
    params = (params[0], *jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params[1:]))
    state = jn.TrainState(params, optax.adam(0.1).init(params), key, epoch=jnp.array(2), step=jnp.array(7))
    jn.save(tmp_path / "state.npz", state)
    for like in (state, jax.eval_shape(lambda: state)):
        back = jn.restore(str(tmp_path / "state.npz"), like)
        assert jax.tree.structure(back) == jax.tree.structure(state)
        as_numbers = [
            jax.tree.map(lambda x: jax.random.key_data(x) if x.dtype == key.dtype else x, tree)
            for tree in (back, state)
        ]
        assert_trees_equal(*as_numbers)
        assert jax.tree.map(lambda x: x.dtype, back) == jax.tree.map(lambda x: x.dtype, state)


def test_arrays_come_back_where_those_of_like_lie(tmp_path, key):
    sharding = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    like = jax.device_put(jnp.zeros((8, 2)), sharding)
    jn.save(tmp_path / "x.npz", jnp.arange(16.0).reshape(8, 2))
    back = jn.restore(tmp_path / "x.npz", like)
    assert back.sharding == sharding
    np.testing.assert_array_equal(back, np.arange(16.0).reshape(8, 2))


@pytest.mark.parametrize(
    ("like", "told"),
    [
        (jn.mlp((3, 4, 2, 2), jn.tanh), "expected the arrays of `like`, got another structure: params[4].W, which"),
        (jn.dense(3, 4), "expected the arrays of `like`, got another structure: params.W, which the file lacks"),
        (jn.mlp((3, 5, 2), jn.tanh), "expected params[0].W to be float32[5, 3], got float32[4, 3]"),
    ],
)
def test_other_arrays_than_those_asked_for_are_named(like, told, tmp_path, key):
    path = tmp_path / "params.npz"
    jn.save(path, NET.init(key))
    with pytest.raises(ValueError) as error:
        jn.restore(path, like.init(key))
    assert str(error.value).startswith(f"restore: {path}: {told}")


def test_what_only_the_file_has_is_named(tmp_path, key):
    jn.save(tmp_path / "params.npz", NET.init(key))
    with pytest.raises(ValueError) as error:
        jn.restore(tmp_path / "params.npz", NET.init(key)[:1])
    assert str(error.value).endswith("got another structure: params[2].W, which only the file has")


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_what_is_no_such_file_is_one_line_and_no_pickle_is_read(content, tmp_path):
    path = tmp_path / "params.npz"
    if content is None:
        np.savez(path, description=np.array([{}], object))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        jn.restore(path, jnp.zeros(2))
    assert str(error.value) == f"restore: {path}: expected a whole file that jaxnet.save wrote"
    with pytest.raises(ValueError) as error:
        jn.restore(tmp_path / "nowhere", jnp.zeros(2))
    assert str(error.value) == f"restore: {tmp_path}/nowhere: cannot be read (No such file or directory)"


def test_what_is_no_array_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError) as error:
        jn.save(tmp_path / "params.npz", {"W": jnp.zeros(2), "name": "W"})
    assert str(error.value) == "save: expected a pytree of arrays, got str at params['name']"
    assert not list(tmp_path.iterdir())
