"""SSD, selective synaptic dampening: shrinks weights that matter more to forget rows (Foster et al. 2024)."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.methods.base import MethodCost, OneShot
from ltu_jax.methods.importance import importance
from ltu_jax.training.cost import Cost
from ltu_jax.types import UnlearnState, Visible


@flax.struct.dataclass
class SSD(OneShot):
    """SSD: ``theta_p <- min(lambda I_D / I_f, 1) theta_p`` where ``I_f > alpha I_D``.

    ``I`` is the mean over batches of the squared gradient of the batch's mean loss, in evaluation
    mode, unaugmented, as the public code has it; it depends on the size of the batch. D is all training
    rows there; here it is all that is visible, which at rho = 1 is the same, in an order drawn by the key: batches
    of forget rows alone would be those of ``I_f``, and ``I_f / I_D`` could not exceed ``|D| / |D_f|``. Nothing is
    trained.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, tuple[()]]:
        """Dampens the weights."""
        alpha, dampening, size = self.settings.alpha, self.settings.dampening, self.settings.batch_size
        mixed = jax.random.permutation(key, sum(len(rows.labels) for rows in visible.both))

        def dampened(weight, of_forget, of_all):
            factor = jnp.minimum(dampening * of_all / jnp.where(of_forget > 0, of_forget, 1), 1)
            return jnp.where(of_forget > alpha * of_all, factor * weight, weight)

        importances = importance(state, visible.forget, size), importance(state, visible.all, size, mixed)
        return state.replace(params=jax.tree.map(dampened, state.params, *importances)), ()

    def cost(self, visible: Visible) -> MethodCost:
        """A gradient of each visible row, and another of the forget rows."""
        num_forget, num_remain = (len(rows.labels) for rows in visible.both)
        passed = 2 * num_forget + num_remain
        return MethodCost(Cost(passed, passed, num_remain, 2 * num_forget), Cost())
