# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A day with per-example gradients
#
# Training uses one gradient, the mean over a batch. It is made of one gradient for each example, and these know
# more: which labels are wrong, how large a batch should be, whom a step helps and whom it hurts. They are said to
# be too costly to look at. That is so where each is formed, and not where the backward pass is owned: at a weight
# the gradient of example i is `dz_i a_i^T`, and both factors are there on the way back.
#
# We spend the day on handwritten digits, some of which have a wrong label. They are scikit-learn's, which with
# matplotlib for the figures `pip install -e '.[train]'` brings.

# %%
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxnet as jn

WRONG, CLASSES = 100, 10
data, labels = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(len(data))
images, true = (data[order] / 16).astype(np.float32), labels[order]
x, x_test, y_test = jnp.array(images[:1200]), jnp.array(images[1200:]), true[1200:]

# Of 1,200 training labels 100 are made wrong.
given = true[:1200].copy()
wrong = rng.choice(len(given), WRONG, replace=False)
given[wrong] = (given[wrong] + rng.integers(1, CLASSES, WRONG)) % CLASSES
y = jnp.array(given)

net, loss = jn.mlp((64, 32, CLASSES), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
params = net.init(jax.random.key(0))
print(f"{len(x)} images to learn from, {len(x_test)} for the test")

# %% [markdown]
# ## Morning: whose gradient is longest?
#
# We train for some epochs, and then send one signal back. `dparams` holds all gradients in factors; a *reading*
# makes of them what is asked, here the length of each.

# %%
optimizer = optax.adam(3e-3)


def trained(epochs, read=jn.per_example.mean):
    """The parameters after so many epochs, with updates along what is read off."""
    value_and_grad = partial(jn.value_and_grad, read=lambda dparams, weights: read(dparams))
    epoch = jn.make_epoch(net, loss, optimizer, batch_size=50, value_and_grad=value_and_grad)
    # An epoch consumes the state that it is given, so that each run gets parameters of its own.
    state = jn.TrainState.create(net.init(jax.random.key(0)), optimizer, jax.random.key(1))
    for _ in range(epochs):
        state, _ = epoch(state, x, y)
    return state.params


@jax.jit
def gradients(params):
    """One backward pass: every example's gradient, in factors."""
    z, cache = net.forward(params, x)
    dparams, _ = net.backward(params, cache, loss.backward(z, y))
    return dparams


early = trained(epochs=15)
dparams = gradients(early)
norms = np.array(jn.per_example.norms(dparams))
longest = np.argsort(-norms)
found = np.isin(longest[:WRONG], wrong).sum()
print(f"of the {WRONG} longest gradients {found} belong to wrong labels, by chance {WRONG * WRONG // len(x)}")

# %%
figure, panels = plt.subplots(2, 8, figsize=(8, 2.7), layout="constrained")
for axes, example in zip(panels.flat, longest, strict=False):
    axes.imshow(images[example].reshape(8, 8), cmap="Greys")
    axes.set_title(f"label {given[example]}", fontsize=9)
    axes.set(xticks=[], yticks=[])
figure.suptitle("The sixteen longest gradients, and the labels they were given", fontsize=10)
plt.show()

# %% [markdown]
# The losses would have told much the same here. Lengths tell more where the two differ: a loss says how wrong the
# network is, a length how much the example would change it.
#
# ## Noon: do not let one example have its way
#
# A wrong label pulls as hard as it can, at every step. Clipping makes every gradient at most C long before the
# mean is taken: `(1/m) sum_i min(1, C / |g_i|) g_i`. It is another reading of the same pass, so that training
# changes in one word.


# %%
def accuracy(params):
    """On the test part, whose labels are right."""
    return float((np.array(net(params, x_test)).argmax(axis=1) == y_test).mean())


plain, clipped = trained(epochs=60), trained(epochs=60, read=partial(jn.per_example.clipped_mean, max_norm=0.3))
print(f"test accuracy {accuracy(plain):.1%} with the mean, {accuracy(clipped):.1%} with clipped gradients")

# %% [markdown]
# With noise added to the clipped sum, this is [differentially private training](../how-to/private-training.md).
#
# ## Afternoon: whom does a step help?
#
# To first order a step along `-d` changes example i's loss by `-<g_i, d>`. With d the mean gradient, the sign
# says who gains and who pays. All inner products come from one more product of matrices for each layer.

# %%
mean = jn.per_example.mean(dparams)
along = np.array(jn.per_example.dot(dparams, mean))
print(f"a step along the mean gradient hurts {(along < 0).mean():.0%} of all examples")

# %% [markdown]
# Inner products of examples with one another make the Gram matrix, `<g_i, g_j>`. Divided by lengths they are
# cosines, and the classes show: images of one digit ask for the same change, and some pairs of digits for
# opposite ones.

# %%
right = np.setdiff1d(np.arange(len(x)), wrong)[:400]
right = right[np.argsort(given[right], kind="stable")]
part = jax.tree.map(lambda leaf: leaf[right], dparams)
gram = np.array(jn.per_example.gram(part))
lengths = np.sqrt(np.diag(gram))
cosines = gram / np.outer(lengths, lengths)
same = given[right][:, None] == given[right][None, :]
others = ~np.eye(len(right), dtype=bool)
print(f"mean cosine {cosines[same & others].mean():.2f} within a class, {cosines[~same].mean():.2f} between classes")

# %%
figure, axes = plt.subplots(figsize=(4.6, 3.9), layout="constrained")
shades = axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
starts = np.searchsorted(given[right], np.arange(CLASSES))
axes.set(xticks=starts, xticklabels=range(CLASSES), yticks=starts, yticklabels=range(CLASSES))
axes.set(xlabel="examples, by class", ylabel="examples, by class", title="Cosines of 400 examples' gradients")
figure.colorbar(shades, label="cosine")
plt.show()

# %% [markdown]
# ## Evening: how large a batch?
#
# The mean of B gradients has the noise of one divided by B. The *noise scale*, `tr(Sigma) / |G|^2`, is the B at
# which noise and gradient are equally long: a smaller batch gets mostly noise, a much larger one repeats itself.
# It grows as training goes on, since the gradient becomes short and the examples go on to disagree.

# %%
for epochs in (0, 2, 4):
    dparams = gradients(trained(epochs))
    print(f"after {epochs:2} epochs the noise scale is {float(jn.per_example.noise_scale(dparams)):6.0f}")

# %% [markdown]
# ## Tomorrow: a network of your own, and what it costs
#
# Nothing above is about dense layers. A convolution's gradient is kept as signal and image, an embedding's as
# signal and ids, and every reading goes through all of them. Here is a convolutional network, by the same three
# lines.

# %%
cnn = jn.cnn((8, 8, 1), CLASSES)
shapes = jax.eval_shape(cnn.init, jax.random.key(2))
batch = jax.ShapeDtypeStruct((128, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((128,), jnp.int32)


def by_hand(read):
    """A program of one backward pass and a reading."""

    def program(params, x, y):
        z, cache = cnn.forward(params, x)
        dparams, _ = cnn.backward(params, cache, loss.backward(z, y))
        return read(dparams)

    return program


def mean_loss(params, x, y):
    """Of a batch."""
    return loss.forward(cnn(params, x), y).mean()


def clipped_by_vmap(params, x, y):
    """Each gradient formed by vmap of jax.grad, and their clipped mean."""
    each = jax.vmap(jax.grad(lambda params, x, y: mean_loss(params, x[None], y[None])), (None, 0, 0))(params, x, y)
    norms = sum((leaf**2).reshape(len(x), -1).sum(1) for leaf in jax.tree.leaves(each)) ** 0.5
    return jax.tree.map(lambda leaf: jnp.tensordot(jnp.minimum(1, 1 / norms), leaf, 1) / len(x), each)


programs = {
    "jax.grad's mean": jax.grad(mean_loss),
    "mean": by_hand(jn.per_example.mean),
    "clipped mean": by_hand(partial(jn.per_example.clipped_mean, max_norm=1.0)),
    "clipped mean by vmap(jax.grad)": clipped_by_vmap,
}
print(f"{'':32}million operations  MB")
for name, program in programs.items():
    compiled = jax.jit(program).lower(shapes, *batch).compile()
    operations, memory = compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes
    print(f"{name:32}{operations / 1e6:18.0f}{memory / 1e6:4.0f}")

# %% [markdown]
# All readings, their equations and what they cost are on [a page](../readings.md). How a gradient comes about is
# told in [backpropagation by hand](backpropagation-by-hand.ipynb).
