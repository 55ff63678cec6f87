"""What privacy a run has, and how much of it is spent: (epsilon, delta) by an accountant, as the run's steps pass.

(epsilon, delta) is for two training parts of which one has an example more: whatever follows from the parameters after
the steps, all of them, is at most e^epsilon times as likely with the one as with the other, but for delta.

An example is in each batch by itself, with probability q = batch size / examples. A batch has room for m examples, so
that shapes are fixed, and leaves out those beyond. With probability tau or less, that of Binomial(n + 1, q) > m, a step
is another than the one accounted for; T steps then are private with delta + T (1 + e^epsilon) tau in place of delta. m
is so large that this is `OVERFLOW` of delta at most, and the accountant is asked for what is left of delta.

Source: Abadi et al., Deep learning with differential privacy, 2016; for batches without room, Chua et al., Scalable
DP-SGD: shuffling vs. Poisson subsampling, 2024, theorem 3.3; for the accountant, Doroshenko et al., Connect the dots:
tighter discrete approximations of privacy loss distributions, 2022.
"""

import functools
import math
import secrets
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.devices.processes import by_first
from jaxnet.training import TrainState

# Of delta, what batches may take that have no room for all of their examples.
OVERFLOW = 1e-3
# Of the multiplier, how far it may be above the least one that will do.
TOLERANCE = 1e-3


class Budget(NamedTuple):
    """The privacy that a run may spend, and how it does.

    Attributes:
      epsilon, delta: all of it.
      examples: n, of the training part.
      batch_size: q n, the examples that are expected in a batch.
      steps: after how many it is spent.
      noise_multiplier: the noise's standard deviation on the sum of a batch's clipped gradients, in units of the length
        that each is clipped to.
      room: m, examples that a batch has room for.
    """

    epsilon: float
    delta: float
    examples: int
    batch_size: int
    steps: int
    noise_multiplier: float
    room: int

    @property
    def rate(self) -> float:
        """q, with which an example is in a batch."""
        return self.batch_size / self.examples

    def spent(self, step: int) -> float:
        """epsilon after so many steps: that of delta, and never above what is told of all steps."""
        asked = self.delta * (1 - OVERFLOW)
        return accounted(self.noise_multiplier, self.rate, step, asked, interval_of(self.steps))


def budget_of(
    epsilon: float, delta: float, examples: int, batch_size: int, epochs: int, noise_multiplier: float | None = None
) -> Budget:
    """The least noise with which so many epochs stay within (epsilon, delta).

    Args:
      epsilon, delta: of the options.
      examples: of the training part.
      batch_size: examples expected in a batch, at most all.
      epochs: all of them; one has as many steps as batches fit the examples.
      noise_multiplier: of a run that goes on; None where it is to be found.

    Raises:
      BadInput: when delta is no less than 1 / examples, which a run would satisfy that tells all of one example.
    """
    if delta * examples >= 1:
        raise BadInput(
            f"--private-delta {delta:g}: expected less than 1 / {examples}, one over the training examples: with more, "
            "a run may tell all about one of them"
        )
    steps, rate = epochs * -(-examples // batch_size), batch_size / examples
    if noise_multiplier is None:
        noise_multiplier = multiplier_of(epsilon, delta * (1 - OVERFLOW), rate, steps)
    room = room_for(examples, rate, OVERFLOW * delta / (steps * (1 + math.exp(epsilon))))
    return Budget(epsilon, delta, examples, batch_size, steps, noise_multiplier, room)


def multiplier_of(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least noise multiplier that dp-accounting finds for so many steps, but for `TOLERANCE`."""
    import dp_accounting

    return dp_accounting.calibrate_dp_mechanism(
        functools.partial(_accountant, interval_of(steps)),
        lambda multiplier: _event(multiplier, rate, steps),
        epsilon,
        delta,
        dp_accounting.LowerEndpointAndGuess(0, 1),
        tol=TOLERANCE,
    )


def accounted(noise_multiplier: float, rate: float, steps: int, delta: float, interval: float) -> float:
    """epsilon of so many steps, as dp-accounting has it: rounded up throughout."""
    return float(_accountant(interval).compose(_event(noise_multiplier, rate, steps)).get_epsilon(delta))


def interval_of(steps: int) -> float:
    """How finely the accountant tells losses apart: its own 1e-4, but coarser for few steps, for which that suffices.

    What it rounds up grows with the interval's square, and with the steps: it is about 0.001 of epsilon.
    """
    return min(1e-3, max(1e-4, math.sqrt(2e-3 / steps)))


def room_for(examples: int, rate: float, mass: float) -> int:
    """The least m with P[Binomial(n + 1, q) > m] at most `mass`: where there is an example more, too."""
    if rate == 1:
        return examples
    n = examples + 1
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    log_ways = log_factorial[n] - log_factorial - log_factorial[::-1]
    log_p = log_ways + k * math.log(rate) + (n - k) * math.log1p(-rate)
    # P[> m], from the far end, where it is smallest.
    beyond = np.concatenate([np.cumsum(np.exp(log_p)[::-1])[::-1][1:], [0.0]])
    return min(int(np.argmax(beyond <= mass)), examples)


def secret_words() -> np.ndarray:
    """What the keys of a private run are made of, (4,): numbers of the system's entropy, the same in all processes.

    `--seed` is known, and a key made of any such seed has 32 bits of its 64. Who knows which examples were drawn, or
    the noise, can take it away again.
    """
    words: Any = by_first(lambda: [secrets.randbits(32) for _ in range(4)])
    return np.array(words, np.uint32)


def with_keys(state: TrainState, words: jax.Array) -> TrainState:
    """The state with secret keys, of what is drawn and of the noise.

    They are arguments of compiled programs throughout, and no constants: the user's cache keeps programs.
    """
    draws, noise = (jax.random.wrap_key_data(half) for half in (words[:2], words[2:]))
    return state._replace(key=draws, opt_state=optax.tree.set(state.opt_state, rng_key=noise))


def _event(noise_multiplier, rate, steps):
    import dp_accounting

    noise = dp_accounting.GaussianDpEvent(noise_multiplier)
    return dp_accounting.SelfComposedDpEvent(dp_accounting.PoissonSampledDpEvent(rate, noise), steps)


def _accountant(interval):
    from dp_accounting import pld

    return pld.PLDAccountant(value_discretization_interval=interval)
