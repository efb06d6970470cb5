"""LTU on real images in half an hour of two CPU cores: 5,000 images of cifar10_jpeg, 5 classes, ResNet-18 of width 8.

python -m ltu_jax.unlearn --config experiments/configs/cifar10_jpeg_small.py --config.data.data_dir=DIR

cifar10_jpeg is CIFAR-10 re-encoded as JPEG: the true images, not the original pixels.
"""

from ltu_jax.config import Config, Data, Evaluation, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    return Config(
        data=Data(
            "cifar10_jpeg",
            classes=(0, 1, 6, 7, 8),  # airplane, automobile, frog, horse, ship
            train_size=5000,
            test_size=2500,
            validation_fraction=0.04,
            augment="flip",
        ),
        model=Model("resnet18", width=8),
        training=Training(epochs=20, batch_size=100),
        method=method_config(method),
        evaluation=Evaluation(num_retrain=1),
    )
