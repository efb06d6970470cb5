"""A small model and its passes written out in NumPy: what the methods' definitions are checked with.

The model is the toy of ``mlp`` behind the poorest of batch norms: it takes off the mean of the batch in
training, the stored mean in evaluation, and stores the one it used. Rates, weights and temperatures of the
tests are powers of two where they can be, so that float32 holds them exactly and float64 shows the algebra.
"""

import functools

import jax
import jax.numpy as jnp
import mlp
import numpy as np

from ltu_jax.data.batches import gather
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Parts, Rows, Visible, make_state

C = 4
SPEC = mlp.build(None, C, (4, 4, 3))
SOURCE = mlp.toy_source(num_classes=C)


def apply_fn(params, model_state, images, train):
    images = images.astype(params["w1"].dtype)
    shift = images.mean() if train else model_state["mean"]
    return SPEC.apply_fn(params, {}, images - shift + 0.5, train)[0], {"mean": shift}


def init_params(key):
    return SPEC.init(key)[0], {"mean": jnp.asarray(0.4)}


def original():
    return make_state(apply_fn, *init_params(jax.random.key(1)), SGD, jax.random.key(3))


def convolved_apply_fn(params, model_state, images, train):
    """The same model behind a convolution of 3x3."""
    layout = ("NHWC", "HWIO", "NHWC")
    images, kernel = images.astype(params["w1"].dtype), params["kernel"]
    images = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout)
    return apply_fn(params, model_state, images, train)


def convolved():
    """An original with a convolution, for the methods that change those."""
    state = original()
    kernel = jax.random.normal(jax.random.key(2), (3, 3, 3, 3)) / 5
    return make_state(convolved_apply_fn, {"kernel": kernel, **state.params}, state.model_state, SGD, state.rng)


def rows(start, stop):
    return SOURCE.rows(np.arange(start, stop))


VISIBLE = Visible(rows(0, 24), rows(24, 84), rows(84, 120))


def parts(**more):
    return Parts(apply_fn, C, init_params=init_params, **more)


def started(method, visible=VISIBLE, seed=4, start=None):
    """``(state, context)`` of a run of ``method`` from the original, or from another model."""
    return method.init(jax.random.key(seed), original() if start is None else start, visible)


def draw_at(method, context, step, visible=VISIBLE):
    return method.sample(jax.random.fold_in(jax.random.key(5), step), jnp.int32(step), context, visible)


def all_draws(method):
    """What each step of a run draws."""
    _, context = started(method)
    return [draw_at(method, context, step) for step in range(method.num_steps(VISIBLE))]


def poisoned(kind):
    """The visible rows as floats, those of ``kind`` not a number: whatever reads one of them shows it."""
    floats = {name: Rows(r.images.astype(jnp.float32), r.labels) for name, r in VISIBLE._asdict().items()}
    return Visible(**{**floats, kind: Rows(floats[kind].images * jnp.nan, floats[kind].labels)})


def run_all(method, visible, start=None):
    """The state after every step of a run."""
    state, context = started(method, visible, start=start)
    step = jax.jit(lambda state, context, draw: method.step(state, context, draw)[0])
    for t in range(method.num_steps(visible)):
        state = step(state, context, draw_at(method, context, t, visible))
    return state


def is_finite(state):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


_PLACES = {
    np.asarray(image).tobytes(): (kind, row)
    for kind, stored in VISIBLE._asdict().items()
    for row, image in enumerate(np.asarray(gather(stored, jnp.arange(len(stored.labels))).images))
}


def rows_of(images):
    """Which visible row each image is, as ``(kind, row)``."""
    return [_PLACES[image.tobytes()] for image in np.asarray(images)]


def numpy(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def forward(params, images, shift=None):
    """Hidden units and logits; ``shift`` None is training mode."""
    images = np.asarray(images, np.float64)
    centred = (images - (images.mean() if shift is None else shift)).reshape(len(images), -1)
    hidden = np.tanh(centred @ params["w1"])
    return centred, hidden, hidden @ params["w2"]


def backward(params, images, delta, shift=None):
    """The gradient of ``sum(delta * logits)``; ``delta`` f64[B, C] is constant."""
    centred, hidden, _ = forward(params, images, shift)
    return {"w1": centred.T @ ((delta @ params["w2"].T) * (1 - hidden**2)), "w2": hidden.T @ delta}


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def one_hot(labels):
    return np.eye(C)[np.asarray(labels)]


def label_loss(params, images, labels, shift=None):
    """The mean cross-entropy and its gradient."""
    p, wanted = softmax(forward(params, images, shift)[2]), one_hot(labels)
    return -np.log((p * wanted).sum(axis=1)).mean(), backward(params, images, (p - wanted) / len(p), shift)


def label_gradient(params, draw):
    """The gradient of the mean cross-entropy of a batch in training mode."""
    return label_loss(params, *draw)[1]


def sgd(params, gradients, rates, momentum=0.0, weight_decay=0.0, mask=None):
    """PyTorch's SGD: ``g += wd p; b = m b + g; p -= lr b``, where ``mask`` allows it; ``gradients`` are functions."""
    velocity = {n: 0.0 for n in params}
    for gradient, rate in zip(gradients, np.broadcast_to(rates, len(gradients)), strict=True):
        grad = gradient(params)
        velocity = {n: momentum * velocity[n] + grad[n] + weight_decay * params[n] for n in params}
        params = {n: params[n] - rate * velocity[n] * (1 if mask is None else mask[n]) for n in params}
    return params


def check_steps(method, settings, gradient, start=None, mask=None):
    """Holds a run of ``method`` against SGD in NumPy on ``gradient(params, draw)``, in float64; returns its draws."""
    start = original().params if start is None else start
    draws = all_draws(method)
    gradients = [functools.partial(gradient, draw=draw) for draw in draws]
    rates = settings.learning_rate, settings.momentum, settings.weight_decay
    wanted, after = sgd(numpy(start), gradients, *rates, mask), run_all(method, VISIBLE)
    for name in wanted:
        np.testing.assert_allclose(after.params[name], wanted[name], rtol=1e-6, atol=1e-9)
    return draws
