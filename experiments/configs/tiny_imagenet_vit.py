"""The paper's Table 1, bottom: Tiny-ImageNet at 64x64, ViT. For a GPU; 50 % with --config.data.forget_fraction=0.5.

python -m ltu_jax.unlearn --config experiments/configs/tiny_imagenet_vit.py --config.data.data_dir=DIR

DIR holds the standard folder tiny-imagenet-200; it is prepared on first use. Not run here: the paper does not
say which ViT, nor how it was trained, so size, patches and recipe are ours. Trained from scratch it will not
reach the paper's accuracy, which needs a ViT pre-trained on ImageNet.
"""

from ltu_jax.config import Config, Data, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    return Config(
        data=Data("tiny_imagenet", train_size=None, augment="crop_flip"),
        model=Model("vit_small", patch_size=8),
        training=Training(epochs=100, batch_size=256, learning_rate=0.1, weight_decay=1e-4, warmup_epochs=10.0),
        method=method_config(method),
    )
