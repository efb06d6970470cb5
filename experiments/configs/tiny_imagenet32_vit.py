"""LTU on a small ViT and real images, for two CPU cores: 5,000 images of tiny_imagenet32, 20 classes.

python -m ltu_jax.unlearn --config experiments/configs/tiny_imagenet32_vit.py --config.data.data_dir=DIR

tiny_imagenet32 is Tiny ImageNet at 32x32 instead of 64x64 pixels.
"""

from ltu_jax.config import Config, Data, Evaluation, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    return Config(
        data=Data(
            "tiny_imagenet32",
            classes=tuple(range(20)),
            train_size=5000,
            validation_fraction=0.1,
            augment="flip",
        ),
        model=Model("vit_mini", patch_size=8),
        training=Training(epochs=40, batch_size=100, learning_rate=0.05, weight_decay=1e-4, warmup_epochs=3.0),
        method=method_config(method),
        evaluation=Evaluation(num_retrain=2),
    )
