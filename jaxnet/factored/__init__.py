"""Per-example gradients in factored form: the forms that a parameter's gradient takes, and their algebra.

A layer's `backward` never multiplies dz by a. For each parameter it returns the two factors, from which the gradient
g_i of every single example could be formed. Sums, norms and inner products of the g_i are contractions of the factors;
what they have in common with the lesson is dW = (1/m) dZ^T A, which is one of them.
"""

from jaxnet.factored.diagonal import Diagonal
from jaxnet.factored.each import Each
from jaxnet.factored.form import Factored, map_leaves, require_forms
from jaxnet.factored.forming import BUDGET, Reading, formed, forming
from jaxnet.factored.outer import Outer
from jaxnet.factored.rows import Rows
from jaxnet.factored.stacked import Stacked
from jaxnet.factored.sum import Sum
from jaxnet.factored.uses import Uses
from jaxnet.factored.window import Window
from jaxnet.factored.windows import Windows

__all__ = [
    "BUDGET",
    "Diagonal",
    "Each",
    "Factored",
    "Outer",
    "Reading",
    "Rows",
    "Stacked",
    "Sum",
    "Uses",
    "Window",
    "Windows",
    "formed",
    "forming",
    "map_leaves",
    "require_forms",
]
