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
# # Backpropagation by hand, from two layers to attention
#
# Autodiff gives a gradient, and keeps to itself how it came about. Here we write the backward pass ourselves:
# first for a network of two layers, as [the lesson](../lesson.md) does; then in pieces that fit any network; then
# for a norm and for attention. After each step `jax.grad` is asked whether we are right. You need NumPy's
# notation and the chain rule, and for the figures matplotlib, which `pip install -e '.[train]'` brings.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxnet as jn

# In float64 a wrong formula cannot hide behind rounding.
jax.config.update("jax_enable_x64", True)


def furthest(by_hand, by_autodiff):
    """The largest difference of two trees, in units of the largest number of the second."""
    pairs = zip(jax.tree.leaves(by_hand), jax.tree.leaves(by_autodiff), strict=True)
    return max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs)


# %% [markdown]
# ## Two layers
#
# Two moons in the plane, one for each class. Four `tanh` neurons, then one `sigmoid` output, the probability of
# class 1. Examples are rows: X is (m, 2), W1 is (4, 2), and `Z1 = X W1^T + b1`.

# %%
rng = np.random.default_rng(0)
m = 400
angle = rng.uniform(0, np.pi, m)
Y = (np.arange(m) % 2).reshape(m, 1).astype(float)
upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
X = np.where(Y == 0, upper, lower) + 0.15 * rng.normal(size=(m, 2))

params = {
    "W1": jnp.array(rng.normal(size=(4, 2))),
    "b1": jnp.zeros(4),
    "W2": jnp.array(rng.normal(size=(1, 4))),
    "b2": jnp.zeros(1),
}


def forward(params, X):
    """The four equations; A1 and A2 are kept, since the way back needs them."""
    Z1 = X @ params["W1"].T + params["b1"]
    A1 = jnp.tanh(Z1)
    Z2 = A1 @ params["W2"].T + params["b2"]
    A2 = jax.nn.sigmoid(Z2)
    return A1, A2


def mean_loss(params, X, Y):
    """The cross-entropy, a mean over examples."""
    _, A2 = forward(params, X)
    return -(Y * jnp.log(A2) + (1 - Y) * jnp.log(1 - A2)).mean()


print(f"loss {mean_loss(params, X, Y):.3f} nats, as good as a coin has {np.log(2):.3f}")

# %% [markdown]
# Now the way back. A `d` before a name is the derivative of one example's loss with respect to it. The loss and
# the sigmoid together leave the simplest derivative there is: `dZ2 = A2 - Y`. From there it is one rule over and
# over. A product `Z = A W^T` sends back `dA = dZ W` and leaves `dW = dZ^T A` at the weight. An activation
# multiplies by its slope, and that of `tanh` is `1 - A1^2`: it is known from the output alone.


# %%
def backward(params, X, Y):
    """The derivatives of the mean loss, line by line from the last equation to the first."""
    A1, A2 = forward(params, X)
    dZ2 = A2 - Y
    dW2 = dZ2.T @ A1 / m
    db2 = dZ2.mean(axis=0)
    dA1 = dZ2 @ params["W2"]
    dZ1 = dA1 * (1 - A1**2)
    dW1 = dZ1.T @ X / m
    db1 = dZ1.mean(axis=0)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


autodiff = jax.grad(mean_loss)(params, X, Y)
print("the four gradients are autodiff's to 1e-13:", furthest(backward(params, X, Y), autodiff) < 1e-13)


# %%
@jax.jit
def descend(params):
    """2,000 steps along the gradient by hand."""

    def step(params, _):
        return jax.tree.map(lambda p, g: p - 1.0 * g, params, backward(params, X, Y)), None

    return jax.lax.scan(step, params, length=2000)[0]


trained = descend(params)
correct = ((forward(trained, X)[1] > 0.5) == Y).mean()
print(f"loss {mean_loss(trained, X, Y):.3f} nats after 2,000 steps; {correct:.1%} on the right side")

# %%
grid = np.stack(np.meshgrid(np.linspace(-1.6, 2.6, 200), np.linspace(-1.1, 1.6, 150)), axis=-1)
probability = forward(trained, grid.reshape(-1, 2))[1].reshape(grid.shape[:2])
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
shades = axes.contourf(*grid.transpose(2, 0, 1), probability, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
for label, marker, color in (("class 0", "o", "#1f4e79"), ("class 1", "^", "#8b1a1a")):
    axes.scatter(*X[Y[:, 0] == float(label[-1])].T, s=10, marker=marker, color=color, label=label)
axes.set(xlabel="first input", ylabel="second input", title="What four neurons make of two moons")
axes.legend()
figure.colorbar(shades, label="probability of class 1")
plt.show()

# %% [markdown]
# ## The same in pieces
#
# Each line of `backward` looked at one line of `forward` alone. So a network can be put together from layers that
# know their own way back. A layer here is three functions. `forward` returns its output and whatever `backward`
# will need. `backward` takes the signal `dy`, the derivative with respect to the output, and returns the
# parameters' gradients and `dx`, the signal for whoever comes before.
#
# One thing is worth doing differently from autodiff: **do not sum over examples yet**. At a weight the gradient
# of example i is `dz_i a_i^T`, the product of a column and a row. `Outer` keeps the two and forms nothing; what
# to read off them is decided later.


# %%
def dense_forward(params, x):
    """z = x W^T + b; x is what backward needs."""
    return x @ params["W"].T + params["b"][None], x


def dense_backward(params, x, dz):
    """dW and db of each example, in factors; dx = dz W."""
    return {"W": jn.Outer(dz, x), "b": jn.Each(dz)}, dz @ params["W"]


def dense(inputs, outputs):
    """The layer, with weights that keep the variance of what goes through."""

    def init(key):
        return {"W": jax.random.normal(key, (outputs, inputs)) / inputs**0.5, "b": jnp.zeros(outputs)}

    return jn.Layer(init, dense_forward, dense_backward)


def chain(*layers):
    """Layer after layer: forward from the first to the last, backward from the last to the first."""

    def init(key):
        return [layer.init(k) for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True)]

    def forward(params, x):
        caches = []
        for layer, p in zip(layers, params, strict=True):
            x, cache = layer.forward(p, x)
            caches.append(cache)
        return x, caches

    def backward(params, caches, dy):
        dparams = []
        for layer, p, cache in zip(layers[::-1], params[::-1], caches[::-1], strict=True):
            dp, dy = layer.backward(p, cache, dy)
            dparams.append(dp)
        return dparams[::-1], dy

    return jn.Layer(init, forward, backward)


net = chain(dense(2, 4), jn.tanh, dense(4, 1))
loss = jn.losses.sigmoid_binary_cross_entropy  # the sigmoid is in the loss, where dz = a - y
start = net.init(jax.random.key(0))
z, caches = net.forward(start, X)
dparams, _ = net.backward(start, caches, loss.backward(z, Y))

mean = jn.per_example.mean(dparams)
autodiff = jax.grad(lambda params: loss.forward(net.forward(params, X)[0], Y).mean())(start)
print("the mean gradient is autodiff's to 1e-13:", furthest(mean, autodiff) < 1e-13)

norms = jn.per_example.norms(dparams)
print(f"the lengths of the {len(norms)} gradients, none of which was formed: {norms.min():.3f} to {norms.max():.3f}")

# %% [markdown]
# That chain and that dense layer are, but for their error messages, the library's own: `jn.chain` and `jn.dense`.
# The rest of this page adds layers to it.
#
# ## A norm
#
# Layer norm brings each example's numbers to mean 0 and variance 1, and then scales them:
#
#     centred = x - mean(x)
#     normed  = centred / sqrt(mean(centred^2) + eps)
#     y       = gain * normed
#
# Backward undoes the steps in reverse. The last is a product by numbers, so that `dgain = dy * normed` and
# `dnormed = gain * dy`. The middle step has a derivative with a meaning: whatever would only make `centred`
# longer changes nothing, since its length is divided away. So that part of the signal is taken out: `dnormed -
# normed * mean(dnormed * normed)`. The first step likewise takes out what would shift all numbers alike: the
# mean.

# %%
EPS = 1e-5


def norm_forward(gain, x):
    """What is kept: the outcome, and by what was divided."""
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPS)
    normed = centred * rstd
    return normed * gain[None], (normed, rstd)


def norm_backward(gain, cache, dy):
    """The steps of forward in reverse."""
    normed, rstd = cache
    # 3. y = normed * gain
    dgain, dnormed = jn.Each(dy * normed), dy * gain[None]
    # 2. normed = centred * rstd
    dcentred = rstd * (dnormed - normed * (dnormed * normed).mean(axis=-1, keepdims=True))
    # 1. centred = x - mean(x)
    return dgain, dcentred - dcentred.mean(axis=-1, keepdims=True)


def norm(features):
    """The layer."""
    return jn.Layer(lambda key: jnp.ones(features), norm_forward, norm_backward)


# Against jax.vjp and central differences, for random signals, in float64, float32 and bfloat16.
jn.testing.check_layer(norm(6), jax.random.normal(jax.random.key(1), (5, 6)), jax.random.key(2))
print("norm: the backward by hand is the derivative of forward")

# %% [markdown]
# A mistake is told, and where. Here the second line forgets that the length is divided away:


# %%
def forgetful_backward(gain, cache, dy):
    """Takes rstd for a constant."""
    normed, rstd = cache
    dcentred = rstd * dy * gain[None]
    return jn.Each(dy * normed), dcentred - dcentred.mean(axis=-1, keepdims=True)


forgetful = jn.Layer(lambda key: jnp.ones(6), norm_forward, forgetful_backward)
try:
    jn.testing.check_layer(forgetful, jax.random.normal(jax.random.key(1), (5, 6)), jax.random.key(2))
except AssertionError as mistake:
    print(str(mistake).splitlines()[0])
    print("  ...", str(mistake).splitlines()[1].strip()[:60])

# %% [markdown]
# ## Attention
#
# T positions, each with a query, a key and a value. Position t looks at all positions s up to its own and takes a
# mean of their values, with weights that say how well its query fits their keys:
#
#     S = Q K^T / sqrt(d)              (T, T), -inf where s > t
#     P = softmax of each row of S
#     Y = P V
#
# Forward has two products, and each product sends back two: `dV = P^T dY` and `dP = dY V^T`, then `dQ = dS K /
# sqrt(d)` and `dK = dS^T Q / sqrt(d)`. Between them lies the softmax. Row by row it is `P = e^S / sum(e^S)`, and
# again something is divided away: adding a number to a whole row changes nothing. So `dS = P * (dP - sum(P *
# dP))`, the signal less its mean under P. Six products in all, and nothing else that grows with T^2 times d.


# %%
def attend_forward(params, qkv):
    """q, k, v: (m, T, d) each; what is kept: the three, and P."""
    q, k, v = qkv
    T, d = q.shape[1:]
    S = jnp.einsum("mtd,msd->mts", q, k) / d**0.5
    P = jax.nn.softmax(jnp.where(jnp.tri(T, dtype=bool)[None], S, -jnp.inf), axis=-1)
    return jnp.einsum("mts,msd->mtd", P, v), (q, k, v, P)


def attend_backward(params, cache, dy):
    """The steps of forward in reverse; where P is 0 no signal goes through."""
    q, k, v, P = cache
    # 3. Y = P V
    dP = jnp.einsum("mtd,msd->mts", dy, v)
    dv = jnp.einsum("mts,mtd->msd", P, dy)
    # 2. P = softmax(S)
    dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True))
    # 1. S = Q K^T / sqrt(d)
    dq = jnp.einsum("mts,msd->mtd", dS, k) / q.shape[-1] ** 0.5
    dk = jnp.einsum("mts,mtd->msd", dS, q) / q.shape[-1] ** 0.5
    return (), (dq, dk, dv)


attend = jn.Layer(lambda key: (), attend_forward, attend_backward)
qkv = tuple(jax.random.normal(key, (3, 5, 4)) for key in jax.random.split(jax.random.key(3), 3))
jn.testing.check_layer(attend, qkv, jax.random.key(4))
print("attend: the backward by hand is the derivative of forward")

# %% [markdown]
# ## A network of them
#
# What is left is composition. `jn.branches` gives the same input to three projections, `jn.residual` adds a
# layer's input to its output, and forward and backward of the whole follow from the parts. `jn.dense` takes
# sequences (m, T, d) as they are: a weight's gradient for an example is then a sum over its positions. The
# projections have no biases: that of the keys would shift all of a row's scores alike, which the softmax does not
# see, so that its gradient is 0.
#
# The task: ids at random, and after the eighth the same eight again. The second half can be known only by looking
# back.

# %%
V, D, HALF = 12, 24, 8


def block():
    """Attention and a small network, each behind a norm and beside a way past it."""
    q, k, v = (jn.dense(D, D, bias=False) for _ in range(3))
    look = jn.chain(norm(D), jn.branches(q, k, v), attend, jn.dense(D, D))
    think = jn.chain(norm(D), jn.dense(D, 4 * D), jn.gelu, jn.dense(4 * D, D))
    return jn.chain(jn.residual(look), jn.residual(think))


gpt = jn.chain(jn.embedding(V, D), jn.position_table(2 * HALF, D), block(), block(), norm(D), jn.dense(D, V))
cross_entropy = jn.losses.softmax_cross_entropy_with_integer_labels


def copies(key, many):
    """Ids and the ids that follow: (many, 2 HALF - 1) each."""
    half = jax.random.randint(key, (many, HALF), 0, V)
    ids = jnp.concatenate([half, half], axis=1)
    return ids[:, :-1], ids[:, 1:]


ids, following = copies(jax.random.key(5), 16)
weights = jax.jit(gpt.init)(jax.random.key(6))
value, gradient = jax.jit(jn.value_and_grad(gpt, cross_entropy))(weights, ids, following)
autodiff = jax.jit(jax.grad(lambda w: cross_entropy.forward(gpt(w, ids), following).mean()))(weights)
count = sum(leaf.size for leaf in jax.tree.leaves(weights))
print(f"{count:,} parameters; all gradients are autodiff's to 1e-12:", furthest(gradient, autodiff) < 1e-12)

# %% [markdown]
# From here on float32 will do.

# %%
jax.config.update("jax_enable_x64", False)
optimizer = optax.adam(3e-3)
weights = jax.jit(gpt.init)(jax.random.key(6))
batches = jax.vmap(lambda key: copies(key, 32))(jax.random.split(jax.random.key(8), 300))
state, told = jn.make_steps(gpt, cross_entropy, optimizer)(jn.TrainState.create(weights, optimizer), *batches)

ids, following = copies(jax.random.key(9), 200)
z, cache = jax.jit(gpt.forward)(state.params, ids)
log_p = jax.nn.log_softmax(z)
lost = -jnp.take_along_axis(log_p, following[..., None], axis=-1)[..., 0].mean(axis=0)
print(f"first half {lost[: HALF - 1].mean():.2f} nats for an id, and log {V} is {np.log(V):.2f}")
print(f"second half {lost[HALF - 1 :].mean():.2f} nats")

# %% [markdown]
# Where does the network look? `forward` has kept P for the way back, so that it lies in the cache. In the first
# block each position of the second half looks seven back: eight positions ago stood the same id, and after it the
# one that comes next. The second block has little left to do.

# %%
maps = [leaf[0] for leaf in jax.tree.leaves(cache) if leaf.shape[1:] == (2 * HALF - 1, 2 * HALF - 1)]
figure, panels = plt.subplots(1, len(maps), figsize=(7, 3.4), layout="constrained", sharey=True)
for number, (axes, P) in enumerate(zip(panels, maps, strict=True), 1):
    image = axes.imshow(P, cmap="Greys", vmin=0, vmax=1)
    axes.set(xlabel="position looked at", title=f"block {number}", xticks=range(0, 15, 2), yticks=range(0, 15, 2))
panels[0].set_ylabel("position that looks")
figure.colorbar(image, ax=panels, label="weight")
plt.show()

# %% [markdown]
# ## What owning it is good for
#
# The gradients of the 200 sequences are there one by one, in factors, and were never formed. Which sequence pulls
# hardest? It is read off a backward pass, in one compiled program; `jax.grad` would have to be asked 200 times.
# Ids that come twice make the next id hard to tell.

# %%


@jax.jit
def lengths(params, ids, following):
    """Of each sequence's gradient, (m,)."""
    z, cache = gpt.forward(params, ids)
    dparams, _ = gpt.backward(params, cache, cross_entropy.backward(z, following))
    return jn.per_example.norms(dparams)


norms = np.array(lengths(state.params, ids, following))
repeats = np.array([len(set(row.tolist())) for row in np.array(ids[:, :HALF])])
hard, easy = norms[repeats <= 5], norms[repeats >= 7]
print(f"longest gradient {norms.max():.1f}, median {np.median(norms):.1f}")
print(f"median of sequences with at most 5 different ids {np.median(hard):.1f}, with at least 7 {np.median(easy):.1f}")

# %% [markdown]
# Every derivation has [a page of its own](../derivations/attention.md), with what is kept and what each reading
# costs. The next notebook is [a day with per-example gradients](a-day-with-per-example-gradients.ipynb).
