"""What flows from which layer to which, in whatever network.

The inputs and outputs of every layer are marked, and the network is traced: its program tells the rest.
"""

from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxnet.drawing.traced import Group, Reader, Step, Value, mark
from jaxnet.layer import Layer
from jaxnet.places import Place, at_places


class Flow(NamedTuple):
    """A network's steps in the order of forward.

    Attributes:
      values: all there are; first the inputs.
      steps, groups: what there is; a group stands before those inside it.
      inputs, outputs: numbers of values.
    """

    values: list[Value]
    steps: list[Step]
    groups: list[Group]
    inputs: list[int]
    outputs: list[int]


def flow_of(net: Layer, params: Any, x: Any) -> Flow:
    """What flows through a network.

    Args:
      net: any layer or network.
      params, x: arrays or their shapes: nothing is computed.
    """
    calls: list[tuple[Place, Any, Any]] = []

    def marking(layer, place):
        def forward(params, x):
            number = len(calls)
            calls.append((place, *jax.tree.map(_struct, (params, x))))
            y, cache = layer.forward(params, checkpoint_name(x, mark(number, "in")))
            return checkpoint_name(y, mark(number, "out")), cache

        forward.__name__ = f"{layer.name}_forward"
        return layer._replace(forward=forward)

    program = jax.make_jaxpr(at_places(marking, net).apply)(params, x).jaxpr
    reader = Reader(calls)
    variables = program.invars[len(jax.tree.leaves(params)) :]
    inputs = [reader.new(variable) for variable in variables]
    known = dict(zip(variables, inputs, strict=True))
    reader.read(program, known)
    return Flow(reader.values, reader.steps, reader.groups, inputs, [known[variable] for variable in program.outvars])


def _struct(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)
