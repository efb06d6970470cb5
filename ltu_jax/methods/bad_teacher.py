"""BadT: a student of two teachers, the original on remaining rows, an untrained one on forget rows."""

import jax
import jax.numpy as jnp

from ltu_jax import config
from ltu_jax.methods.base import Method
from ltu_jax.methods.descent import begin, descend
from ltu_jax.methods.distillation import copied, kl_divergence
from ltu_jax.methods.streams import mixed_stream
from ltu_jax.types import Parts


def build(settings: config.BadTeacher, parts: Parts) -> Method:
    """BadT: ``theta <- Adam(mean KL(teacher || student))``, the teacher chosen row by row (Chundawat et al. 2023).

    The competent teacher is the original, the incompetent one has fresh random weights; both answer in
    evaluation mode. The public code shows 30 % of D_r (here ``data.remain_fraction`` or
    ``remain_per_forget``) and divides the loss by the number of classes too, which Adam does not notice.

    Args:
      settings: see ``config.BadTeacher``.
      parts: needs ``init_params``.

    Returns:
      ``Method``.

    Raises:
      ValueError: if ``init_params`` is missing.
    """
    init_params, temperature = parts.init_params, settings.temperature
    if init_params is None:
        raise ValueError("bad_teacher: parts.init_params is missing; allowed: a model that can be made untrained")
    stream = mixed_stream(settings)

    def init(key, state, visible):
        order_key, teacher_key = jax.random.split(key)
        teachers = copied(state.params, state.model_state), copied(*init_params(teacher_key))
        return begin(settings, state, order_key, stream.num_steps(visible), extra=teachers)

    def loss(params, state, context, draw):
        images = draw.batch.images
        good, bad = (teacher.logits(parts.apply_fn, images) for teacher in context.extra)
        targets = jax.nn.softmax(jnp.where(draw.is_forget[:, None], bad, good) / temperature)
        logits, model_state = state.apply_fn(params, state.model_state, images, train=True)
        return kl_divergence(targets, logits, temperature).mean(), model_state

    cost = stream.cost(forward=3)  # both teachers see every row
    return Method(init, stream.draws(settings, parts), descend(loss), stream.num_steps, cost=cost)
