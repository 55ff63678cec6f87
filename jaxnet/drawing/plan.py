"""What is in a network's picture: boxes, what flows between them, and the equations of the way back.

Names and shapes come from the network itself: its layers are traced, forward as parts of the network, and each by
itself both ways.
"""

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnet import per_example
from jaxnet.calls import calls_of
from jaxnet.description import name_of
from jaxnet.drawing.flow import flow_of
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.places import combinator_of


class Edge(NamedTuple):
    """What flows between boxes: its name, the shape that it and its derivative have, and whether it has one.

    Or a parameter, and whether other boxes have it too.
    """

    name: str
    shape: tuple[int, ...]
    differentiable: bool = True
    shared: bool = False


class Box(NamedTuple):
    """A layer in the picture, or a sum.

    Attributes:
      title: the layer's name.
      learnt: each parameter's name and shape.
      formulas: how it sends its signal back, and what becomes of its parameters.
      takes, gives: the numbers of edges.
    """

    title: str
    learnt: tuple[Edge, ...]
    formulas: tuple[str, ...]
    takes: tuple[int, ...]
    gives: tuple[int, ...]


class Frame(NamedTuple):
    """A line around boxes, from the first to before the end, with a title; inside so many other frames."""

    title: str
    first: int
    end: int
    depth: int


class Plan(NamedTuple):
    """All that is to be drawn. Inputs and outputs are numbers of edges."""

    edges: list[Edge]
    boxes: list[Box]
    frames: list[Frame]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def plan_of(net: Layer, params: Any, x: Any, loss: Loss | None) -> Plan:
    """The picture's contents; see `jaxnet.draw`."""
    flow, calls = flow_of(net, params, x), {call.place.path: call for call in calls_of(net, params, x)}
    floating = [jnp.issubdtype(value.dtype, jnp.floating) for value in flow.values]
    names = [f"Y{number}" for number in range(len(flow.values))]
    for number in flow.inputs:
        names[number] = "X" if len(flow.inputs) == 1 else f"X{number + 1}"
    edges = [Edge(*of) for of in zip(names, (value.shape for value in flow.values), floating, strict=True)]
    boxes: list[Box] = []
    linear = 0
    # What layers with the same parameters call them, by the index of these.
    learnt_at: dict[str, tuple[Edge, ...]] = {}
    uses = Counter(calls[step.place.path].index for step in flow.steps if step.operation is None)
    for step in flow.steps:
        layer, before = step.place.layer, boxes[-1].gives if boxes else tuple(flow.inputs)
        # What comes from the box before is named first.
        takes = tuple(sorted(dict.fromkeys(step.takes), key=lambda number: number not in before))
        used = {number for box in boxes for number in box.takes}
        if step.operation is not None:
            boxes.append(_combination(step, edges, takes, used))
            continue
        number = step.gives[0] if step.gives else len(edges)
        if layer.kind == "linear":
            linear += 1
            number = linear
        if len(step.gives) == 1:
            edges[step.gives[0]] = edges[step.gives[0]]._replace(name=_name(layer, edges, takes, number, step.gives[0]))
        index = calls[step.place.path].index
        again = index in learnt_at
        learnt = _learnt(index, step, number, shared=uses[index] > 1)
        learnt = learnt_at.setdefault(index, learnt)
        formulas = _formulas(
            layer, learnt, [edges[k] for k in step.gives], [(edges[k], k in used) for k in takes], again=again
        )
        boxes.append(Box(_title(layer.name), learnt, formulas, takes, tuple(step.gives)))
    outputs = tuple(flow.outputs)
    if loss is not None:
        of_outputs = ", ".join(f"d{edges[k].name} = dL/d{edges[k].name}" for k in outputs)
        boxes.append(Box(_title(name_of(loss.forward)), (), (of_outputs,), outputs, (len(edges),)))
        edges.append(Edge("L", edges[0].shape[:1]))
        outputs = (len(edges) - 1,)
    return Plan(edges, boxes, _frames(flow, calls), tuple(flow.inputs), outputs)


def _name(layer, edges, takes, number, place):
    """A follows the Z that it is made of; whatever else there is goes by its place."""
    before = edges[takes[0]].name if len(takes) == 1 else ""
    name = f"Y{place}"
    if layer.kind == "linear":
        name = f"Z{number}"
    elif layer.kind == "elementwise" and before.startswith("Z"):
        name = f"A{before[1:]}"
    # Another activation of the same Z.
    return f"Y{place}" if name in [edge.name for edge in edges] else name


def _combination(step, edges, takes, used):
    """What a combinator does itself."""
    (given,) = step.gives
    if step.operation == "+":
        formulas = tuple(f"d{edges[k].name} {'+=' if k in used else '='} d{edges[given].name}" for k in takes)
        return Box("+", (), formulas, takes, (given,))
    formulas = _backward((), [edges[given]], [(edges[k], k in used) for k in takes])
    return Box(_title(combinator_of(step.place.layer)), (), formulas, takes, (given,))


def _title(name):
    return name.replace("_", " ")


def _learnt(index, step, number, *, shared):
    """Each parameter's name and shape, which its gradient has too."""
    layer = step.place.layer
    _, grads, dx = jax.eval_shape(partial(_both_ways, layer), step.params, step.x)
    for of_x, of_dx in zip(jax.tree.leaves(step.x), jax.tree.leaves(dx, is_leaf=lambda of: of is None), strict=True):
        # Integers have no derivative.
        if of_dx is not None and of_dx.shape != of_x.shape:
            place = f"{index} ({layer.name})".strip()
            raise ValueError(f"draw: layer {place} sends back {of_dx.shape} for an input of {of_x.shape}")
    named, _ = jax.tree_util.tree_flatten_with_path(step.params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "params" for path, _ in named]
    for name, (_, of_params), grad in zip(names, named, jax.tree.leaves(grads), strict=True):
        if grad.shape != of_params.shape:
            raise ValueError(f"draw: the gradient of {name} {of_params.shape} has shape {grad.shape}")
    shapes = (of_params.shape for _, of_params in named)
    return tuple(Edge(f"{name}{number}", shape, shared=shared) for name, shape in zip(names, shapes, strict=True))


def _both_ways(layer, params, x):
    """The output; and the gradients and the signal that come back for one of the output's shape."""
    y, cache = layer.forward(params, x)
    dparams, dx = layer.backward(params, cache, y)
    return y, per_example.mean(dparams), dx


def _formulas(layer, learnt, given, taken, *, again=False):
    """The equations of a layer's way back; those of others than dense layers and activations are not guessed."""
    adds = " +=" if again else " ="
    if len(given) == len(taken) == 1:
        (to,), ((of, used),) = given, taken
        equals = f"d{of.name} {'+=' if used else '='} d{to.name}"
        of_dense = [(*to.shape[-1:], *of.shape[-1:]), to.shape[-1:]]
        if layer.kind == "linear" and learnt and [edge.shape for edge in learnt] == of_dense[: len(learnt)]:
            W, *biases = (edge.name for edge in learnt)
            of_biases = (f"d{b}{adds} (1/m) Σ d{to.name}" for b in biases)
            return f"{equals} {W}", f"d{W}{adds} (1/m) d{to.name}ᵀ {of.name}", *of_biases
        if layer.kind == "elementwise" and not learnt:
            return (equals if layer.name == "identity" else f"{equals} * g'({of.name})",)
    return _backward(learnt, given, taken, again=again)


def _backward(learnt, given, taken, *, again=False):
    of_taken = [f"d{of.name}{' +=' if used else ''}" for of, used in taken if of.differentiable]
    parts = ", ".join([*(f"d{edge.name}{' +=' if again else ''}" for edge in learnt), *of_taken])
    return (f"{parts}: backward of {', '.join(f'd{edge.name}' for edge in given)}",) if parts else ()


def _frames(flow, calls):
    """Around what is gone through in rounds, or computed again, or put together in a way that the boxes do not tell."""
    frames: list[Frame] = []
    for group in flow.groups:
        path, call = group.place.path, calls[group.place.path]
        parts = [part for part in calls.values() if part.place.path and part.place.path[:-1] == path]
        times = [f"{number} times" for part in parts[:1] for number in part.rounds[len(call.rounds) :]]
        again = call.keeps and not all(part.keeps for part in parts)
        own = any(step.operation == "other" and step.place.path == path for step in flow.steps)
        if (times or again or own) and group.end > group.first:
            depth = sum(frame.first <= group.first < frame.end for frame in frames)
            frames.append(
                Frame(", ".join([_title(combinator_of(group.place.layer)), *times]), group.first, group.end, depth)
            )
    return frames
