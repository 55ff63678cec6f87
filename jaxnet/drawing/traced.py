"""A network's program, read for what flows from which layer to which.

Between the marks of the layers stands what the combinators do themselves. They mostly hand values on as they are, or
add them up; what else they do is one step, whatever it is.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxnet.places import Place

MARK = "jaxnet.drawing"
SUMS = {"add", "add_any"}
# Operations that call a program, and those that hand on what they are given.
CALLS = {"jit", "pjit", "closed_call"}
SAME = {"convert_element_type", "copy", "name", "optimization_barrier", "reshard", "sharding_constraint"}


class Value(NamedTuple):
    """An array that flows between layers."""

    shape: tuple[int, ...]
    dtype: Any


@dataclass
class Step:
    """What makes values of others: a layer that is made of no others, or what a combinator does itself.

    Attributes:
      place, params, x: of the layer, or of the combinator's.
      operation: None for a layer; for a combinator "+" or "other".
      takes, gives: the numbers of values.
    """

    place: Place
    params: Any
    x: Any
    operation: str | None
    takes: list[int]
    gives: list[int] = field(default_factory=list)


@dataclass
class Group:
    """A layer that is made of others: what it takes and gives, and the steps inside it, up to before the end."""

    place: Place
    first: int
    end: int = 0
    takes: list[int] = field(default_factory=list)
    gives: list[int] = field(default_factory=list)


class _Mixed(NamedTuple):
    """What a combinator made of values: their sum, "+", or something "other"."""

    operation: str
    sources: tuple[int, ...]


def mark(number: int, end: str) -> str:
    """The name that marks the inputs of a call, where it begins, "in", or its outputs, "out"."""
    return f"{MARK} {number} {end}"


class Reader:
    """Goes through a program, and knows of its variables which value they are, or what was made of which."""

    def __init__(self, calls):
        self.calls = calls
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.groups: list[Group] = []
        # The calls that the program is in, outermost first.
        self.open: list[tuple[int, Step | Group]] = []

    def new(self, variable):
        self.values.append(Value(variable.aval.shape, variable.aval.dtype))
        return len(self.values) - 1

    def read(self, program, known):
        for equation in program.eqns:
            mark = _mark(equation)
            # All outputs of a call are marked one after the other.
            if self.open and self.open[-1][1].gives and mark != (self.open[-1][0], "out"):
                self.open.pop()
            if mark is not None:
                number, end = mark
                (before,), (after,) = equation.invars, equation.outvars
                if end == "in":
                    self.enter(number, before, after, known)
                else:
                    self.leave(before, after, known)
            elif not (self.open and isinstance(self.open[-1][1], Step)):
                self.combine(equation, known)

    def enter(self, number, before, after, known):
        place, params, x = self.calls[number]
        again = bool(self.open) and self.open[-1][0] == number
        around = self.open[: -1 if again else None]
        value = self.settled(before, known, around[-1][1].place if around else place)
        if not again and place.layer.made is None:
            self.open.append((number, Step(place, params, x, None, [])))
        elif not again:
            self.groups.append(Group(place, len(self.steps)))
            self.open.append((number, self.groups[-1]))
        if value is not None:
            known[after] = value
            self.open[-1][1].takes.append(value)

    def leave(self, before, after, known):
        call = self.open[-1][1]
        if isinstance(call, Group):
            known[after] = self.settled(before, known, call.place)
            if known[after] is None:
                known[after] = self.new(after)
            call.end = len(self.steps)
        else:
            if not call.gives:
                self.steps.append(call)
            known[after] = self.new(after)
        call.gives.append(known[after])

    def settled(self, variable, known, place):
        """The value that a variable is; what a combinator has made of others is one from here on."""
        source = None if _is_constant(variable) else known.get(variable)
        if isinstance(source, _Mixed):
            number = self.new(variable)
            self.steps.append(Step(place, (), None, source.operation, list(source.sources), [number]))
            known[variable] = source = number
        return source

    def combine(self, equation, known):
        """What a combinator does itself: hands on, calls what may have layers in it, adds, or anything else."""
        name, inputs, outputs = equation.primitive.name, equation.invars, equation.outvars
        taken = [None if _is_constant(variable) else known.get(variable) for variable in inputs]
        programs = [program for program in _programs(equation) if _has_marks(program) or name in CALLS]
        for program in programs:
            inside = zip(reversed(program.invars), reversed(inputs), reversed(taken), strict=False)
            known_inside = {inner: _same_shape(source, outer, inner) for inner, outer, source in inside}
            self.read(program, known_inside)
            for inner, outer in zip(program.outvars, outputs, strict=False):
                source = None if _is_constant(inner) else known_inside.get(inner)
                known[outer] = _same_shape(source, inner, outer)
        if programs or all(source is None for source in taken):
            return
        if name in SAME:
            known.update(zip(outputs, taken, strict=False))
            return
        is_sum = name in SUMS and all(
            of.aval.shape == outputs[0].aval.shape and _is_sum(source) for source, of in zip(taken, inputs, strict=True)
        )
        known.update(dict.fromkeys(outputs, _Mixed("+" if is_sum else "other", _sources(taken, each=is_sum))))


def _mark(equation):
    name = str(equation.params.get("name", ""))
    if equation.primitive.name != "name" or not name.startswith(MARK):
        return None
    _, number, end = name.split()
    return int(number), end


def _is_constant(variable):
    return hasattr(variable, "val")


def _same_shape(source, before, after):
    """What is sliced from a value for a round of a scan, or stacked by it, is no longer that value."""
    if source is None or before.aval.shape == after.aval.shape:
        return source
    return _Mixed("other", _sources([source]))


def _is_sum(source):
    return isinstance(source, int) or (isinstance(source, _Mixed) and source.operation == "+")


def _sources(taken, *, each=False):
    sources = [number for of in taken if of is not None for number in (of.sources if isinstance(of, _Mixed) else (of,))]
    return tuple(sources if each else dict.fromkeys(sources))


def _programs(equation):
    for value in equation.params.values():
        for of_value in value if isinstance(value, (tuple, list)) else (value,):
            program = getattr(of_value, "jaxpr", of_value)
            if hasattr(program, "eqns"):
                yield program


def _has_marks(program):
    return any(_mark(equation) is not None or any(map(_has_marks, _programs(equation))) for equation in program.eqns)
