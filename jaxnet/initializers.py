"""How a weight matrix starts: JAX's initialisers, told that the outputs of `W (out, in)` are its first axis."""

import jax

zeros = jax.nn.initializers.zeros
"""W = 0. Hidden neurons then stay identical for ever (the lesson's S12); right for biases."""

small_normal = jax.nn.initializers.normal(0.01)
"""W ~ N(0, 0.01^2), the lesson's start for sigmoid and tanh (S13): small, so that |z| is where the slope is large."""

he = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2)
"""W ~ N(0, 2 / in), truncated at two standard deviations: keeps the variance of what flows forward through ReLU units.

Source: He et al., Delving Deep into Rectifiers, 2015, equation 10.
"""

glorot = jax.nn.initializers.glorot_uniform(in_axis=-1, out_axis=-2)
"""W ~ U(-r, r) with r = sqrt(6 / (in + out)): the compromise between keeping the variance forward and backward.

Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, equation 16.
"""
