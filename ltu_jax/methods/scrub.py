"""SCRUB: away from the original on forget rows, towards it on remaining ones, in turn (Kurmanji et al. 2023)."""

import jax
import jax.numpy as jnp
import optax

from ltu_jax import config
from ltu_jax.methods.base import Method
from ltu_jax.methods.descent import begin, descend
from ltu_jax.methods.distillation import copied, kl_divergence
from ltu_jax.methods.streams import sequential_stream
from ltu_jax.types import Parts


def build(settings: config.Scrub, parts: Parts) -> Method:
    """SCRUB: up ``KL(original || student)`` on D_f, then down ``alpha KL + gamma CE`` on D_r.

    KL is at temperature T and times T^2, as the public code has it. The first ``max_epochs`` epochs begin
    with a pass over D_f; the rest only heal. The teacher answers in evaluation mode. The public code keeps
    two batch sizes and steps its rate down; here they are ``batch_size`` and ``schedule``. Without BatchNorm the
    student begins equal to the teacher, where KL has no gradient: the first pass then moves by rounding alone.

    Args:
      settings: see ``config.Scrub``.
      parts: the model and its augmentation.

    Returns:
      ``Method``.
    """
    stream = sequential_stream(settings, settings.max_epochs)
    temperature = settings.temperature

    def init(key, state, visible):
        teacher = copied(state.params, state.model_state)
        return begin(settings, state, key, stream.num_steps(visible), extra=teacher)

    def loss(params, state, context, draw):
        images, labels = draw.batch
        logits, model_state = state.apply_fn(params, state.model_state, images, train=True)
        targets = jax.nn.softmax(context.extra.logits(state.apply_fn, images) / temperature)
        distance = temperature**2 * kl_divergence(targets, logits, temperature)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        kept = settings.distil_weight * distance + settings.label_weight * entropy
        return jnp.where(draw.is_forget, -distance, kept).mean(), model_state

    return Method(init, stream.draws(settings, parts), descend(loss), stream.num_steps, cost=stream.cost(forward=2))
