"""The embedded default: LTU on 900 digits, 90 of them to forget. A minute or two on two CPU cores.

python -m ltu_jax.unlearn --config experiments/configs/digits.py --workdir runs/digits
python -m ltu_jax.unlearn --config experiments/configs/digits.py:paper --workdir runs/digits-paper
"""

from ltu_jax.default import get_config

__all__ = ["get_config"]
