"""What decoders and encoders are made of: blocks in which positions look at one another, then each changes by itself.

    x = x + E                                              E_t is a row for each position, where they are learnt
    x = x + attention(norm(x)),  x = x + g(norm(x) V^T) U^T          depth times
    y = norm(x)

Norms stand before what they serve, and not on the skip connections, on which what comes back travels unchanged. Dense
layers have no bias: a norm with one stands before them, or a sum comes after.

Tables start with standard deviation 0.02, as GPT-2's do. Weights start by LeCun's rule, with 1 / sqrt(inputs), and the
last ones of the 2 depth branches smaller by sqrt(2 depth), so that what all add together has the variance of one.
GPT-2 has 0.02 for all of them, which at its widths is not far from that rule, and at a width of 128 a quarter of it.

Source: Xiong et al., On layer normalization in the transformer architecture, 2020; Radford et al., Language models are
unsupervised multitask learners, 2019, section 2.3 (GPT-2).
"""

from functools import partial
from typing import Any, SupportsIndex

from jaxnet import initializers
from jaxnet.arguments import instance_of, positive_integer, shown
from jaxnet.branches import branches
from jaxnet.carried import carried, carried_residual
from jaxnet.compose import chain, residual
from jaxnet.layer import Layer
from jaxnet.layers.attention import attention
from jaxnet.layers.dense import dense
from jaxnet.layers.layer_norm import layer_norm
from jaxnet.layers.pick import pick
from jaxnet.layers.position_table import position_table
from jaxnet.layers.position_waves import rotary
from jaxnet.networks.blocks import dropped, normal, of_branches, stacked

of_tables = partial(normal, 0.02)


def pre_norm_blocks(
    where: str,
    causal: bool,
    width: SupportsIndex,
    heads: SupportsIndex,
    depth: SupportsIndex,
    length: SupportsIndex,
    dropout: float,
    positions: Any,
    activation: Layer,
    recompute: bool,
    repeat: bool,
    lengths: bool = False,
) -> Layer:
    """From embedded ids x (m, t, width) to y (m, t, width): `chain(positions, dropout, blocks, norm)`.

    With lengths it is from (x, lengths) to (y, lengths), with each of them `carried`.
    """
    d, heads, depth, length = (
        positive_integer(where, what, value)
        for what, value in (("width", width), ("heads", heads), ("depth", depth), ("length", length))
    )
    if positions not in ("learnt", "rotary"):
        raise ValueError(f"{where}: expected positions to be 'learnt' or 'rotary', got {shown(positions)}")
    learnt = positions == "learnt"
    if d % (heads if learnt else 2 * heads):
        of_each = "" if learnt else ", with an even number of features for each"
        raise ValueError(f"{where}: expected heads to divide the width {d}{of_each}, got {heads}")
    instance_of(Layer, where, "activation to be a Layer", activation, "jaxnet.gelu")
    last = of_branches(initializers.lecun, 2 * depth)
    look = chain(*_look(d, heads, causal, learnt, lengths, last), *dropped(dropout))
    change = residual(chain(*_change(d, activation, last), *dropped(dropout)))
    block = chain(carried_residual(look), carried(change)) if lengths else chain(residual(look), change)
    table = (position_table(length, d, weight_init=of_tables),) if learnt else ()
    blocks = stacked(block, depth, recomputed=recompute, repeated=repeat)
    around = (*table, *dropped(dropout)), (layer_norm(d),)
    before, behind = ([carried(layer) if lengths else layer for layer in layers] for layers in around)
    return chain(*before, blocks, *behind)


def _look(d, heads, causal, learnt, lengths, last):
    """A norm, queries, keys and values, attention, and what makes of all heads one signal."""
    turned = _weights(d, d) if learnt else chain(_weights(d, d), rotary(heads))
    projections, attend = (turned, turned, _weights(d, d)), (attention(heads, causal=causal), _weights(d, d, last))
    if not lengths:
        return layer_norm(d), branches(*projections), *attend
    of_tuple = (chain(pick(0), projection) for projection in projections)
    return carried(layer_norm(d)), branches(*of_tuple, pick(1)), *attend


def _change(d, activation, last):
    """A norm, and two layers with an activation between them."""
    return layer_norm(d), _weights(d, 4 * d), activation, _weights(4 * d, d, last)


def _weights(inputs, outputs, init=initializers.lecun):
    return dense(inputs, outputs, bias=False, weight_init=init)
