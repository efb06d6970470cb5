"""The embedded default, in the form of a configuration file: LTU on digits, nothing to download.

No augmentation, no weight decay: the original knows its 900 images by heart, so that having forgotten 90 of them shows.
Retrain has nine tenths of them, and so knows rows that it never saw about as well as the original does.
"""

from ltu_jax.config import Config, Data, Evaluation, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    """The default problem with a method by name."""
    return Config(
        data=Data("digits", train_size=900, forget_fraction=0.1),
        model=Model("resnet8", width=8),
        training=Training(learning_rate=0.01, weight_decay=0.0),
        method=method_config(method),
        evaluation=Evaluation(num_retrain=2),
    )
