"""The audits that need nothing but answers: of a model, of the original it began from, and of Retrains.

Every figure is made for the model, for the original (ceiling) and for each Retrain against the others (floor). A test
over rows calls a Retrain guilty too, for the rows of one model are no independent trainings: where that could be, the
p-value is that of being one more Retrain (``intervals.one_more``).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.auditing.answers import Outputs
from ltu_jax.auditing.findings import Finding, missing
from ltu_jax.auditing.held_out import held_out
from ltu_jax.auditing.iam import Iam, iam
from ltu_jax.auditing.intervals import FEW, POWER, RESAMPLES, Figure, one_more, roc, span
from ltu_jax.auditing.retrain import ClosenessToRetrain, closeness_to_retrain
from ltu_jax.auditing.rmia import Margins, chosen_scale, rmia, scores
from ltu_jax.evaluation.likeness import Predictions, attack_auc, comparable, matched_weights

SCALE = 1.0
"""RMIA's a where there is no original to choose it on: the ratio to the references' mean probability itself."""
NO_RETRAIN = "it needs a Retrain to compare with"


class Models(NamedTuple):
    """Whose answers are compared, on the same rows: ``forget``, ``held_out`` and maybe ``remain`` and ``test``."""

    target: Outputs
    references: Sequence[Outputs]  # Retrains, none of them the target
    original: Outputs | None
    is_random: bool = True  # whether the forget rows were drawn at random: held-out rows are as hard only then
    seed: int = 0  # of resamples and permutations, the same for all models of an audit
    resamples: int = RESAMPLES

    def named(self) -> dict[str, list[Outputs]]:
        """Those that there are, as pages name them."""
        every = {"unlearned": [self.target], "original": [self.original] if self.original else []}
        return {name: models for name, models in (every | {"retrain": list(self.references)}).items() if models}

    def rng(self, audit: str) -> np.random.Generator:
        """A generator of one audit, at its start."""
        return np.random.default_rng([self.seed, *audit.encode()])


def held_out_audit(models: Models) -> Finding:
    """``auditing.held_out``."""
    pairs = {name: _pair(of) for name, of in models.named().items()}
    (forget, others), weights = pairs["unlearned"], _weights(*pairs["unlearned"])
    found = {
        name: held_out(*pairs[name], models.rng("held_out"), models.resamples) for name in pairs if name != "retrain"
    }
    main, floor = found["unlearned"], [attack_auc(*_pair([one])) for one in models.references]
    details = {name: value for name, value in main._asdict().items() if name not in ("auc", "p_value")}
    if not models.target.logits:
        del details["accuracy"]  # margins do not tell which answer is the largest
    margins = {name: _quantiles(of[0].margin) for name, of in pairs.items() if name != "unlearned"}
    details["margins"] = {"forget": _quantiles(forget.margin), "held_out": _quantiles(others.margin, weights)} | margins
    details["roc"] = {name: roc(of[0].margin, of[1].margin, _weights(*of)) for name, of in pairs.items()}
    figure, p_value = main.auc, main.p_value
    if not models.is_random:
        over_seeds, p_value = of_one_more(figure.value, floor)
        figure = found_over_seeds(figure, over_seeds)
    ceiling = found["original"].auc if models.original else None
    tested = _tested(models, main.auc.value, floor)
    return Finding("held_out", figure, ceiling, span(floor), p_value, tested, details)


def retrain_audit(models: Models) -> Finding:
    """``auditing.retrain``, on each set of rows but the held-out ones, which are test rows."""
    if not models.references:
        return missing("retrain", NO_RETRAIN)
    if not all(one.logits for of in models.named().values() for one in of):
        return missing("retrain", "margins alone were given, and it needs the logits of all models")

    def closeness(model: Outputs, of: str) -> ClosenessToRetrain:
        retrains = [one.logits[of] for one in models.references]
        return closeness_to_retrain(
            model.logits[of], retrains, model.rows[of].labels, models.rng("retrain"), models.resamples
        )

    found = {name: closeness(models.target, name) for name in models.target.rows if name != "held_out"}
    main = found["forget"]
    ceiling = closeness(models.original, "forget").margin.figure if models.original else None
    figure = found_over_seeds(main.margin.figure, main.over_seeds)
    return Finding("retrain", figure, ceiling, main.margin.floor, main.p_value, figure.value, found)


def rmia_audit(models: Models) -> Finding:
    """``auditing.rmia``; its a is chosen on the original, with the same references, and kept for all other models."""
    if not models.references:
        return missing("rmia", NO_RETRAIN)
    attacked = {name: [_attacked(of[0], models.references)] for name, of in models.named().items() if name != "retrain"}
    scale = chosen_scale(*attacked["original"][0]) if models.original else SCALE
    if len(models.references) > 1:
        attacked["retrain"] = [_attacked(one, rest) for one, rest in one_out(models.references)]
    found = {
        name: rmia(*of[0], scale, models.rng("rmia"), models.resamples)
        for name, of in attacked.items()
        if name != "retrain"
    }
    main = found["unlearned"]
    floor = [rmia(*one, scale, models.rng("rmia"), FEW).auc.value for one in attacked.get("retrain", [])]
    details = {name: value for name, value in main._asdict().items() if name not in ("auc", "p_value")}
    details |= {"references": len(models.references)}
    details["roc"] = {name: _roc_of_ratios(of, scale) for name, of in attacked.items()}
    figure, p_value = main.auc, main.p_value
    if not models.is_random:
        over_seeds, p_value = of_one_more(figure.value, floor, each_other=True)
        figure = found_over_seeds(figure, over_seeds)
    ceiling, tested = found["original"].auc if models.original else None, _tested(models, main.auc.value, floor)
    return Finding("rmia", figure, ceiling, span(floor), p_value, tested, details)


def iam_audit(models: Models) -> Finding:
    """``auditing.iam``, on the forget rows."""
    if not models.references:
        return missing("iam", NO_RETRAIN)
    labels = models.target.rows["forget"].labels
    original = None if models.original is None else _forget_margins(models.original)

    def compared(model: Outputs, others: Sequence[Outputs], resamples: int = models.resamples) -> Iam:
        retrains = np.array([_forget_margins(one) for one in others])
        return iam(_forget_margins(model), original, retrains, labels, models.rng("iam"), resamples)

    found = {name: [compared(of[0], models.references)] for name, of in models.named().items() if name != "retrain"}
    found["retrain"] = [compared(one, rest, FEW) for one, rest in one_out(models.references)]
    main, ceiling = found["unlearned"][0], found["original"][0] if models.original else None
    details = {
        "confidence": main.confidence,
        "original": None if ceiling is None else ceiling.confidence.value,
        "retrain": [one.confidence.value for one in found["retrain"]],
        "quantiles": {name: _quantiles(np.concatenate([o.of_rows for o in of])) for name, of in found.items() if of},
        "ks": main.ks,
        "references": main.references,
    }
    if main.auc is None:
        return missing("iam", "it compares with one Retrain by means of the others, and there is one alone")._replace(
            details=details
        )
    floor = [one.auc.value for one in found["retrain"] if one.auc is not None]
    over_rows = main.auc.smallest / POWER / math.sqrt(1 + 1 / len(models.references))  # of a single Retrain
    over_seeds, p_value = of_one_more(main.auc.value, floor, each_other=True, least=over_rows)
    figure, tested = found_over_seeds(main.auc, over_seeds), main.auc.value - (float(np.mean(floor)) if floor else 0.5)
    return Finding("iam", figure, None if ceiling is None else ceiling.auc, span(floor), p_value, tested, details)


BY_ANSWERS: Mapping[str, Callable[[Models], Finding]] = {
    "held_out": held_out_audit,
    "retrain": retrain_audit,
    "rmia": rmia_audit,
    "iam": iam_audit,
}


def one_out(items: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Each of several with the others; nothing for a single one, which has none."""
    several = items if len(items) > 1 else ()
    return [(one, [*items[:k], *items[k + 1 :]]) for k, one in enumerate(several)]


def of_one_more(
    value: float, floor: Sequence[float], *, each_other: bool = False, least: float = 0.0
) -> tuple[Figure | None, float | None]:
    """``one_more``; None where fewer than two tell how much Retrains differ."""
    if len(floor) < 2:
        return None, None
    return one_more(value, np.array(floor), each_other=each_other, least=least)


def found_over_seeds(figure: Figure, over_seeds: Figure | None) -> Figure:
    """A figure with an interval over rows, and the smallest effect that its test over seeds finds, NaN without one."""
    return figure._replace(smallest=math.nan if over_seeds is None else over_seeds.smallest)


def _tested(models: Models, value: float, floor: Sequence[float]) -> float:
    """How far an AUC lies from what it is tested against: 1/2, of chosen forget rows the mean of Retrains."""
    return value - (0.5 if models.is_random or not floor else float(np.mean(floor)))


def _forget_margins(model: Outputs) -> np.ndarray:
    return model.rows["forget"].margin


def _pair(models: Sequence[Outputs]) -> tuple[Predictions, Predictions]:
    """The forget rows, but for those whose class is not held out, and the held-out rows; models one after another."""
    rows = [[one.rows[name] for one in models] for name in ("forget", "held_out")]
    forget, others = (Predictions(*map(np.concatenate, zip(*of, strict=True))) for of in rows)
    return comparable(forget, others), others


def _attacked(target: Outputs, references: Sequence[Outputs]) -> tuple[Margins, Margins]:
    pairs = [_pair([one]) for one in (target, *references)]
    forget, others = ([pair[side] for pair in pairs] for side in (0, 1))
    return _margins(forget), _margins(others)


def _margins(rows: Sequence[Predictions]) -> Margins:
    return Margins(rows[0].margin, np.array([one.margin for one in rows[1:]]), rows[0].labels)


def _roc_of_ratios(targets: Sequence[tuple[Margins, Margins]], scale: float) -> dict[str, np.ndarray]:
    """RMIA's ROC of targets together; a row's score is its mean over the subsets of references."""
    forget, others = (np.concatenate([np.mean(scores(of[side], scale), axis=0) for of in targets]) for side in (0, 1))
    weights = matched_weights(targets[0][1].labels, targets[0][0].labels)
    return roc(forget, others, np.tile(weights, len(targets)))


def _weights(forget: Predictions, others: Predictions) -> np.ndarray:
    return matched_weights(others.labels, forget.labels)


def _quantiles(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, 101), weights=weights, method="inverted_cdf")
