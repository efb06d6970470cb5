"""LTU on a model without BatchNorm: a small ViT on 500 digits, 10 % to forget. Two minutes on two CPU cores.

python -m ltu_jax.unlearn --config experiments/configs/digits_vit.py --workdir runs/digits-vit
"""

from ltu_jax.config import Config, Data, Evaluation, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    return Config(
        data=Data("digits", train_size=500),
        model=Model("vit_micro", patch_size=2),
        training=Training(learning_rate=0.05),
        method=method_config(method),
        evaluation=Evaluation(num_retrain=2),
    )
