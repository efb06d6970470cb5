"""The methods of this package: the settings of each, the class that builds it, and its sentence in the notice.

To add a method: write its file beside this one, and add its settings and an entry of ``BUILT_IN`` here. ``config``
re-exports the settings, so that a configuration file needs one import; like it this module imports no JAX, and no
``from __future__ import annotations``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from ltu_jax.setting import ConfigError, allowed_names, setting

MOST_EPOCHS = 10_000
MOST_IMAGES = 65_536
"""Most images in one step."""
MOST_WEIGHT = 1e6


@dataclasses.dataclass
class LTU:
    """LTU, sec. 3 of the paper; the defaults are what experiments found, ``paper`` is the equations as they stand."""

    name: str = setting("ltu", "the method; chosen by --config FILE.py:NAME")
    epochs: float = setting(10.0, "passes over the forget set", above=0, high=MOST_EPOCHS)
    batch_size: int = setting(50, "forget samples a step", low=1, high=MOST_IMAGES)
    query_size: int = setting(32, "k: samples in each query set", low=1, high=MOST_IMAGES)
    num_queries: int = setting(3, "N: query sets; the samplers are taken in turn", low=1, high=64)
    samplers: tuple[str, ...] = setting(
        ("nearest_feature", "nearest_label", "uniform"),
        "z1, z2, z3 of Eqs. 8-10",
        choices=("nearest_feature", "nearest_label", "uniform"),
    )
    num_neighbours: int = setting(10, "z1 draws among this many nearest rows of each anchor", low=1, high=MOST_IMAGES)
    label_vectors: str = setting(
        "class_mean", "I of Eq. 9: class mean of the features, or one-hot", choices=("class_mean", "one_hot")
    )
    optimizer: str = setting(
        "adam",
        "optimizer of the meta-update; sgd is Eq. 5; nothing decays: adamw is adam",
        choices=("sgd", "adam", "adamw"),
    )
    learning_rate: float = setting(0.001, "beta of Eq. 5: rate of the meta-update", above=0, high=1000)
    momentum: float = setting(0.9, "SGD momentum, 0 is Eq. 5; Adam's first beta", low=0, high=0.9999)
    schedule: str = setting("cosine", "learning rate over the run", choices=("cosine", "constant"))
    inner_learning_rate: float = setting(0.01, "alpha of Eq. 2, in both halves", low=0, high=1000)
    tune_weight: float = setting(
        0.03, "weight of L_tune in Eq. 4, remember half only; 1 is the paper's", low=0, high=MOST_WEIGHT
    )
    forget_by: str = setting(
        "margins",
        "what is taken from the forget rows: margins unlike those of held-out rows, or what attackers see (Eq. 11)",
        choices=("margins", "attackers"),
    )
    forget_weight: float = setting(0.5, "factor on g_f before harmonization", low=0, high=MOST_WEIGHT)
    order: str = setting(
        "none",
        "exact second order, the naive double backward, first order, or no meta-optimization (Table 3)",
        choices=("second", "naive", "first", "none"),
    )
    combine: str = setting(
        "harmonize", "Eq. 12, or what Table 4 compares it with", choices=("harmonize", "add", "alternate")
    )
    remember: bool = setting(True, "the remembering feedback g_r (Table 3)")
    forget: bool = setting(True, "the forgetting feedback g_f (Table 3)")
    relabel: str = setting(
        "never",
        "random labels of Eq. 6 drawn at each step, or once; never: no support set, which leaves order none alone",
        choices=("step", "once", "never"),
    )
    allow_true: bool = setting(True, "whether a random label may be the true one")
    augment: bool = setting(True, "apply config.data.augment while unlearning")
    save_memory: bool = setting(
        False, "query sets one after another, and the support passed anew for each Hessian product: two more gradients"
    )

    @property
    def needs(self) -> frozenset[str]:
        """The attackers, where they say what is forgotten."""
        return frozenset({"bank"}) if self.forget_by == "attackers" else frozenset()


@dataclasses.dataclass
class Retrain:
    """Retraining from scratch on all remaining rows by ``config.training``: the gold model."""

    needs: ClassVar[frozenset[str]] = frozenset({"init_params", "training"})
    name: str = setting("retrain", "the method; chosen by --config FILE.py:NAME")


@dataclasses.dataclass
class PartialRetrain:
    """Retrain's recipe squeezed into a budget: at which cost does plain retraining catch up?"""

    needs: ClassVar[frozenset[str]] = frozenset({"init_params", "training"})
    name: str = setting("partial_retrain", "the method; chosen by --config FILE.py:NAME")
    flops: float = setting(1e12, "flops it may spend; warm-up and decay fit into what they buy", above=0, high=1e30)


@dataclasses.dataclass
class Descent:
    """What the methods share that train on batches; the defaults are SalUn's published protocol."""

    needs: ClassVar[frozenset[str]] = frozenset()
    name: str = setting("", "the method; chosen by --config FILE.py:NAME")
    epochs: float = setting(10.0, "passes over the rows that the method trains on", above=0, high=MOST_EPOCHS)
    batch_size: int = setting(256, "images a step", low=1, high=MOST_IMAGES)
    optimizer: str = setting("sgd", "optimizer", choices=("sgd", "adam", "adamw"))
    learning_rate: float = setting(0.01, "peak learning rate", above=0, high=1000)
    momentum: float = setting(0.9, "SGD momentum, Adam's first beta", low=0, high=0.9999)
    weight_decay: float = setting(
        5e-4,
        "L2 coefficient, added to the gradient of every parameter; adamw's shrinks them beside it",
        low=0,
        high=1000,
    )
    schedule: str = setting(
        "constant",
        "learning rate over the run; by epochs: up and down again, or a tenth after each",
        choices=("cosine", "constant", "triangular", "step"),
    )
    augment: bool = setting(True, "apply config.data.augment while unlearning")
    remain_per_forget: float | None = setting(
        None,
        "remaining images an epoch (NegGrad+: a step) for each forget image, the rho subset repeated or cut as needed;"
        " unset: each row of the subset once, the published protocol; GA sees none",
        above=0,
        high=1000,
    )


@dataclasses.dataclass
class Finetune(Descent):
    """FT: training goes on, on remaining rows alone."""


@dataclasses.dataclass
class L1Sparse(Finetune):
    """l1-sparse: FT with an l1 penalty that falls to nothing epoch by epoch."""

    alpha: float = setting(1e-4, "weight of the sum of all parameters' sizes", low=0, high=MOST_WEIGHT)


@dataclasses.dataclass
class MSG(Finetune):
    """MSG: FT after the convolution weights on which both kinds of rows agree most were drawn anew."""

    fraction: float = setting(0.3, "of each convolution kernel, drawn anew", low=0, high=1)
    kept_scale: float = setting(0.1, "factor on the gradients of the kernels' other weights", low=0, high=MOST_WEIGHT)


@dataclasses.dataclass
class GradientAscent(Descent):
    """GA: up the loss of the forget rows; epochs over the forget set."""


@dataclasses.dataclass
class RandomLabel(Descent):
    """RandL: forget rows with random labels, and remaining rows with their own."""

    relabel_when: str = setting("batch", "when random labels are drawn", choices=("once", "epoch", "batch"))
    allow_true: bool = setting(True, "whether a random label may be the true one")
    order: str = setting(
        "sequential",
        "each epoch first the forget, then the remaining rows; or all shuffled",
        choices=("sequential", "mixed"),
    )


@dataclasses.dataclass
class SalUn(RandomLabel):
    """SalUn: random label on the weights alone that matter most to the forget rows."""

    keep_fraction: float = setting(0.5, "fraction of all weights that may move", above=0, high=1)


@dataclasses.dataclass
class BadTeacher(Descent):
    """BadT: distils an untrained teacher on forget rows, the original on remaining ones."""

    needs: ClassVar[frozenset[str]] = frozenset({"init_params"})
    temperature: float = setting(1.0, "softens both teachers and the student", above=0, high=MOST_WEIGHT)


@dataclasses.dataclass
class NegGradPlus(Descent):
    """NegGrad+: down the loss of remaining rows and up that of forget rows at once; epochs over the remaining ones."""

    remain_weight: float = setting(
        0.95, "weight of the remaining rows' loss; the forget rows' is 1 minus it", above=0, high=1
    )


@dataclasses.dataclass
class Scrub(Descent):
    """SCRUB: away from the original on forget rows, towards it on remaining ones, in turn."""

    max_epochs: float = setting(2.0, "epochs that begin with a pass away from the original", above=0, high=MOST_EPOCHS)
    temperature: float = setting(4.0, "softens teacher and student", above=0, high=MOST_WEIGHT)
    distil_weight: float = setting(
        0.001, "alpha: weight of the distillation on remaining rows", low=0, high=MOST_WEIGHT
    )
    label_weight: float = setting(0.99, "gamma: weight of their cross-entropy", low=0, high=MOST_WEIGHT)


@dataclasses.dataclass
class SFROn(Descent):
    """SFR-on: a bounded, masked step up the loss of forget rows, then steps down that of remaining ones, in turn."""

    forget_weight: float = setting(25.0, "alpha: factor on the forget rows' loss, falls to 0", low=0, high=MOST_WEIGHT)
    loss_power: float = setting(0.5, "lambda: a forget row counts its loss to the power of minus this", low=0, high=100)
    saliency_ratio: float = setting(
        1.0,
        "gamma: a forget step moves weights whose importance to forget rows is above this times the other; 0 is all",
        low=0,
        high=MOST_WEIGHT,
    )
    clip_norm: float = setting(7.0, "largest norm of a forget step's gradient", above=0, high=MOST_WEIGHT)


@dataclasses.dataclass
class LoTUS(Descent):
    """LoTUS: the original's own answers, with noise on forget rows, more of it the more surely these are known."""

    alpha: float = setting(8.0, "temperature exp(alpha d) of forget rows, d an excess of accuracy", low=0, high=1000)
    target_accuracy: float = setting(
        93.0, "percent of held-out rows that the original gets right; forget rows are brought there", low=0, high=100
    )


@dataclasses.dataclass
class AMUN(Descent):
    """AMUN: trains on near adversarial copies of the forget rows, with the labels that the original gives those."""

    keep_true: bool = setting(True, "the forget rows themselves too, with their true labels")


@dataclasses.dataclass
class Amnesiac(Descent):
    """Amnesiac unlearning: takes back the recorded updates of the batches that held a forget row."""

    needs: ClassVar[frozenset[str]] = frozenset({"updates"})
    recorded_epochs: float = setting(
        1.0, "last epochs of the original's training that are recorded", above=0, high=MOST_EPOCHS
    )
    epochs: float = setting(0.0, "passes over the remaining rows afterwards, to heal", low=0, high=MOST_EPOCHS)


@dataclasses.dataclass
class Fisher:
    """Fisher forgetting: noise where the remaining rows do not hold the weights."""

    needs: ClassVar[frozenset[str]] = frozenset()
    name: str = setting("fisher", "the method; chosen by --config FILE.py:NAME")
    alpha: float = setting(1e-10, "size of the noise", above=0, high=MOST_WEIGHT)
    scaling: str = setting(
        "paper",
        "deviation (alpha / F)^(1/4), or the public code's (alpha / F)^(1/2) with its caps",
        choices=("paper", "code"),
    )
    estimator: str = setting(
        "example", "squared gradients of single rows, or SalUn's of whole batches", choices=("example", "batch")
    )
    batch_size: int = setting(
        4,
        "rows at a time: memory is theirs x classes x the parameters; of estimator=batch what is squared",
        low=1,
        high=MOST_IMAGES,
    )


@dataclasses.dataclass
class SSD:
    """SSD: selective synaptic dampening of weights that matter more to forget rows than to all."""

    needs: ClassVar[frozenset[str]] = frozenset()
    name: str = setting("ssd", "the method; chosen by --config FILE.py:NAME")
    alpha: float = setting(
        10.0,
        "a weight is dampened where its forget importance exceeds alpha times the other",
        above=0,
        high=MOST_WEIGHT,
    )
    dampening: float = setting(
        1.0, "lambda: dampened to lambda times the ratio of importances, at most to 1", above=0, high=MOST_WEIGHT
    )
    batch_size: int = setting(128, "rows whose mean gradient is squared", low=1, high=MOST_IMAGES)


class BuiltIn(NamedTuple):
    """A method of this package."""

    settings: Callable[[], Any]
    """Makes the settings that ``--config FILE.py:NAME`` starts from; their ``needs`` says what it needs."""
    builder: str
    """``module:class`` with a ``build(settings, parts)``, imported when the method is built."""
    sentence: str
    """What it did to a model ("it"), in plain words: for the notice of a deletion request, and docs/methods.md."""


BUILT_IN: dict[str, BuiltIn] = {
    "ltu": BuiltIn(
        LTU,
        "ltu_jax.methods.ltu:LTU",
        "Its weights were changed in small steps so that it answers on the images to be forgotten as it does on images"
        " that it never saw, and so that its answers on images that stay are kept.",
    ),
    "retrain": BuiltIn(
        Retrain,
        "ltu_jax.methods.retrain:Retrain",
        "A new model was trained from nothing, on images that stay alone.",
    ),
    "partial_retrain": BuiltIn(
        PartialRetrain,
        "ltu_jax.methods.partial_retrain:PartialRetrain",
        "A new model was trained from nothing, on images that stay alone, with less work than before.",
    ),
    "finetune": BuiltIn(
        lambda: Finetune("finetune"),
        "ltu_jax.methods.finetune:Finetune",
        "It was trained further on images that stay alone, so that what it knew of the others fades.",
    ),
    "ct": BuiltIn(
        lambda: Finetune("ct", epochs=3.0, batch_size=64, learning_rate=1e-3, schedule="cosine", augment=False),
        "ltu_jax.methods.ct:CT",
        "The small patterns that it looks for in an image were mirrored along their diagonal, and it was trained"
        " further on images that stay alone, so that what it knew of the others fades.",
    ),
    "msg": BuiltIn(
        lambda: MSG("msg", epochs=5.0, batch_size=64, learning_rate=1e-3, schedule="triangular", augment=False),
        "ltu_jax.methods.msg:MSG",
        "Those of its weights on which the images to be forgotten and those that stay pull most alike were drawn anew,"
        " and it was trained further on images that stay alone.",
    ),
    "negate_first": BuiltIn(
        lambda: Finetune("negate_first"),
        "ltu_jax.methods.negate_first:NegateFirst",
        "The weights that an image meets first changed their sign, and it was trained further on images that stay"
        " alone, so that what it knew of the others fades.",
    ),
    "l1_sparse": BuiltIn(
        lambda: L1Sparse("l1_sparse"),
        "ltu_jax.methods.l1_sparse:L1Sparse",
        "It was trained further on images that stay alone, while all of its weights were pulled towards zero, so that"
        " what it knew of the others fades.",
    ),
    "random_label": BuiltIn(
        lambda: RandomLabel("random_label"),
        "ltu_jax.methods.random_label:RandomLabel",
        "It was trained further, with labels drawn at random on the images to be forgotten and with the right ones on"
        " images that stay.",
    ),
    "gradient_ascent": BuiltIn(
        lambda: GradientAscent("gradient_ascent", epochs=5.0, learning_rate=5e-4),
        "ltu_jax.methods.gradient_ascent:GradientAscent",
        "Its weights were changed so that its answers on the images to be forgotten became worse.",
    ),
    "amnesiac": BuiltIn(
        lambda: Amnesiac("amnesiac"),
        "ltu_jax.methods.amnesiac:Amnesiac",
        "What the images to be forgotten changed in its weights had been recorded, and was taken back.",
    ),
    "amnesiac_relabel": BuiltIn(
        lambda: RandomLabel(
            "amnesiac_relabel",
            epochs=3.0,
            batch_size=128,
            optimizer="adam",
            learning_rate=1e-4,
            weight_decay=0.0,
            augment=False,
            relabel_when="once",
            allow_true=False,
            order="mixed",
        ),
        "ltu_jax.methods.random_label:RandomLabel",
        "It was trained further, with wrong labels on the images to be forgotten and with the right ones on images that"
        " stay.",
    ),
    "fisher": BuiltIn(
        Fisher,
        "ltu_jax.methods.fisher:Fisher",
        "Its weights were blurred with noise, most of all those that images that stay need least.",
    ),
    "ssd": BuiltIn(
        SSD,
        "ltu_jax.methods.ssd:SSD",
        "Those of its weights that matter far more for the images to be forgotten than for all others were made"
        " smaller.",
    ),
    "bad_teacher": BuiltIn(
        lambda: BadTeacher(
            "bad_teacher", epochs=1.0, optimizer="adam", learning_rate=1e-4, weight_decay=0.0, augment=False
        ),
        "ltu_jax.methods.bad_teacher:BadTeacher",
        "It was trained to answer like a model that knows nothing on the images to be forgotten, and as it did before"
        " on images that stay.",
    ),
    "salun": BuiltIn(
        lambda: SalUn("salun", learning_rate=0.013),
        "ltu_jax.methods.salun:SalUn",
        "Those of its weights that matter most for the images to be forgotten were trained further, with labels drawn"
        " at random on these images and with the right ones on images that stay.",
    ),
    "neggrad_plus": BuiltIn(
        lambda: NegGradPlus("neggrad_plus"),
        "ltu_jax.methods.neggrad_plus:NegGradPlus",
        "Its weights were changed so that its answers on the images to be forgotten became worse, and so that its"
        " answers on images that stay are kept.",
    ),
    "scrub": BuiltIn(
        lambda: Scrub("scrub", learning_rate=5e-4, optimizer="adam"),
        "ltu_jax.methods.scrub:Scrub",
        "Its weights were changed so that its answers on the images to be forgotten moved away from what they were, and"
        " so that its answers on images that stay are kept.",
    ),
    "sfr_on": BuiltIn(
        lambda: SFROn("sfr_on", epochs=7.5, batch_size=128, schedule="cosine"),
        "ltu_jax.methods.sfr_on:SFROn",
        "Those of its weights that matter more for the images to be forgotten were changed so that its answers on these"
        " became worse, and in turn all were trained further on images that stay.",
    ),
    "lotus": BuiltIn(
        lambda: LoTUS("lotus", batch_size=128, optimizer="adamw", learning_rate=1e-4),
        "ltu_jax.methods.lotus:LoTUS",
        "It was trained to answer less surely than before on the images to be forgotten, and as before on images that"
        " stay.",
    ),
    "amun": BuiltIn(
        lambda: AMUN("amun", batch_size=128, schedule="step"),
        "ltu_jax.methods.amun:AMUN",
        "It was trained further on images with their right labels, and on copies of the images to be forgotten that"
        " were changed just enough to be taken for something else, with that as their label.",
    ),
}

PRESETS: dict[str, Callable[[], Any]] = {
    "paper": lambda: LTU(
        epochs=7.0,
        query_size=50,
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.0,
        schedule="constant",
        tune_weight=1.0,
        forget_by="attackers",
        forget_weight=1.0,
        order="second",
        relabel="step",
    ),
    "fisher_salun_compat": lambda: Fisher(alpha=1e-9, scaling="code", estimator="batch", batch_size=32),
}
"""Other settings of a method, by a name of their own."""

METHOD_CONFIGS: dict[str, Callable[[], Any]] = {name: one.settings for name, one in BUILT_IN.items()} | PRESETS
"""What may stand after the colon of ``--config FILE.py:NAME``."""


def needs(settings: Any) -> frozenset[str]:
    """What a method needs beside the model and the rows: fields of ``types.Parts``, such as ``bank`` and ``updates``.

    Of a method of one's own: the attackers, unless its settings have ``needs_bank = False``, and the recorded updates,
    if they have ``recorded_epochs``.
    """
    found = getattr(settings, "needs", frozenset({"bank"}))
    if getattr(settings, "needs_bank", "bank" in found):
        found |= {"bank"}
    else:
        found -= {"bank"}
    return found | {"updates"} if hasattr(settings, "recorded_epochs") else found


def method_config(name: str) -> Any:
    """The settings of a method by name, for ``get_config`` of a configuration file.

    Raises:
      ConfigError: if there is no such method.
    """
    if name not in METHOD_CONFIGS:
        raise ConfigError(f"method {name!r} is unknown; {allowed_names(name, METHOD_CONFIGS)}")
    return METHOD_CONFIGS[name]()
