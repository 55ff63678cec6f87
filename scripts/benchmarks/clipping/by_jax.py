"""A step by JAX: ours, `jax.grad`, `vmap(jax.grad)` and jax-privacy, each compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet as jn
from benchmarks.clipping.networks import LOSS, Net, Problem, build, examples, parameters


def plain(problem: Problem) -> "Program":
    """The mean loss and its gradient, by hand."""
    return Program(problem, jn.value_and_grad(build(problem.net), LOSS))


def clipped(problem: Problem) -> "Program":
    """The mean loss and the mean of the clipped gradients, by hand."""
    return Program(problem, jn.value_and_grad(build(problem.net), LOSS, read=jn.per_example.clipped(problem.max_norm)))


def unformed(problem: Problem) -> "Program":
    """The same where no numbers may be spent on gradients that are formed."""
    read = jn.per_example.clipped(problem.max_norm, budget=0)
    return Program(problem, jn.value_and_grad(build(problem.net), LOSS, read=read))


def automatic(problem: Problem) -> "Program":
    """The mean loss and its gradient, by `jax.grad`."""
    net = build(problem.net)
    return Program(problem, jax.value_and_grad(lambda params, x, y: LOSS.forward(net.apply(params, x), y).mean()))


def mapped(problem: Problem) -> "Program":
    """`vmap(jax.grad)`: the gradients of all examples, their norms, and the weighted sum."""
    of_one = jax.value_and_grad(_loss_of_one(build(problem.net)))

    def step(params, x, y):
        losses, each = jax.vmap(of_one, (None, 0, 0))(params, x, y)
        squares = sum(jnp.square(leaf).reshape(len(leaf), -1).sum(1) for leaf in jax.tree.leaves(each))
        factors = jnp.minimum(1, problem.max_norm / jnp.sqrt(squares)) / len(losses)
        return losses.mean(), jax.tree.map(lambda leaf: jnp.tensordot(factors, leaf, 1), each)

    return Program(problem, step)


def jax_privacy(problem: Problem) -> "Program":
    """jax-privacy's `clipped_grad`, with its defaults."""
    from jax_privacy import clipped_grad

    net = build(problem.net)

    def loss_of_batch(params, x, y):
        return LOSS.forward(net.apply(params, x), y).mean()

    def step(params, x, y):
        read = clipped_grad(
            loss_of_batch,
            l2_clip_norm=problem.max_norm,
            normalize_by=len(x),
            batch_argnums=(1, 2),
            return_values=True,
        )
        grads, aux = read(params, x, y)
        return aux.values.mean(), grads

    return Program(problem, step)


def _loss_of_one(net):
    return lambda params, x, y: LOSS.forward(net.apply(params, x[None]), y[None])[0]


class Program:
    """A step `(params, x, y) -> (loss, grads)`, compiled for a number of examples."""

    def __init__(self, problem: Problem, step: Callable[..., Any]) -> None:
        self._net, self._step = problem.net, jax.jit(step)
        self._examples = problem.examples
        self._compiled: Any = None

    def prepare(self) -> None:
        """Compiles it and makes what it is run on."""
        self._compiled = _compiled(self._step, self._net, self._examples)
        x, y = examples(self._net, self._examples)
        self._given = parameters(self._net), jnp.asarray(x), jnp.asarray(y)

    def run(self) -> None:
        """A step, to its end."""
        jax.block_until_ready(self._compiled(*self._given))

    def gradient(self) -> list[np.ndarray]:
        """What a step gives, parameter by parameter, in our order and shapes."""
        return [np.asarray(leaf) for leaf in jax.tree.leaves(self._compiled(*self._given)[1])]

    def bytes(self, number: int) -> int:
        """As the compiler counts them for so many examples: arguments, what comes out, and all between."""
        prepared = self._compiled if number == self._examples else None
        memory = (prepared or _compiled(self._step, self._net, number)).memory_analysis()
        return memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes

    def operations(self) -> float:
        """As the compiler counts them."""
        return float(self._compiled.cost_analysis()["flops"])


def _compiled(step: Any, net: Net, number: int) -> Any:
    x, y = (jax.ShapeDtypeStruct((number, *one.shape[1:]), one.dtype) for one in examples(net, 1))
    return step.lower(jax.eval_shape(build(net).init, jax.random.key(0)), x, y).compile()
