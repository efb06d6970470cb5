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
    rows there; here it is all that is visible, which at rho = 1 is the same. Nothing is trained.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, tuple[()]]:
        """Dampens the weights."""
        del key
        alpha, dampening = self.settings.alpha, self.settings.dampening

        def dampened(weight, of_forget, of_all):
            factor = jnp.minimum(dampening * of_all / jnp.where(of_forget > 0, of_forget, 1), 1)
            return jnp.where(of_forget > alpha * of_all, factor * weight, weight)

        importances = (importance(state, rows, self.settings.batch_size) for rows in (visible.forget, visible.all))
        return state.replace(params=jax.tree.map(dampened, state.params, *importances)), ()

    def cost(self, visible: Visible) -> MethodCost:
        """A gradient of each visible row, and another of the forget rows."""
        num_forget, num_remain = (len(rows.labels) for rows in visible.both)
        passed = 2 * num_forget + num_remain
        return MethodCost(Cost(passed, passed, num_remain, 2 * num_forget), Cost())
