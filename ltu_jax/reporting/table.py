"""The numbers of a result as rows and text, for the terminal and the page."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ltu_jax.config import NO_GUIDANCE_AUC

MEASURES = ("ua", "ra", "ta", "mi")
MEANINGS = {
    "ua": "error on the forget rows",
    "ra": "accuracy on the remaining rows",
    "ta": "accuracy on the test rows",
    "mi": "forget rows that the held-out attacker calls non-members",
    "ut": "unlearning time in minutes, compilation and evaluation excluded",
}
FITTED_ON_ORIGINAL = (
    "They were fitted on the original itself, the remaining rows given against rows it never saw, not on shadow models:"
    " do not compare with runs that have them."
)
SPREAD = "Between two Retrain models"
TIMES = {
    "unlearn_s": "unlearning",
    "compile_s": "compilation",
    "original_s": "original",
    "attackers_s": "attackers",
    "retrain_s": "Retrain",
}


class Row(NamedTuple):
    """One model of the results table."""

    name: str
    values: tuple[float | None, ...]  # in the order of MEASURES, percent
    gaps: tuple[float | None, ...]  # |difference| to Retrain, points
    mean_gap: float | None
    minutes: float | None


def rows(result: Mapping[str, Any]) -> list[Row]:
    """Original, Retrain (if there is one) and the method, as in the paper's Table 1."""
    models = [("Original", result["original"], result.get("original_gap"))]
    if result.get("retrain"):
        models.append(("Retrain", result["retrain"], None))
    models.append((str(result["method"]), result["scores"], result.get("gap")))
    out = []
    for name, scores, gap in models:
        values, gaps = (tuple((part or {}).get(measure) for measure in MEASURES) for part in (scores, gap))
        out.append(Row(name, values, gaps, (gap or {}).get("mean"), scores.get("ut_minutes")))
    return out


def number(value: float | None, digits: int = 2) -> str:
    """A number as text; ``-`` for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def minutes(value: float | None) -> str:
    """Minutes with two decimals, as in the paper; with two significant digits below 0.1."""
    return f"{value:.2g}" if value is not None and 0 < value < 0.1 else number(value)


def duration(seconds: float | None) -> str:
    """Seconds as text: ``0.42 s``, ``41 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quantity(value: float | None) -> str:
    """A large number with three digits and an SI prefix: ``950``, ``12.3 k``, ``4.56 T``."""
    if value is None or not math.isfinite(value):
        return "-"
    prefixes = iter(("", " k", " M", " G", " T", " P", " E"))
    prefix = next(prefixes)
    while value >= 999.5 and (larger := next(prefixes, None)):
        value, prefix = value / 1000, larger
    return f"{value:.3g}{prefix}"


def average(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def with_deviation(values: Iterable[float | None], digits: int = 2) -> str:
    """``mean ± standard deviation`` (n - 1) of the known values; no deviation for one value, ``-`` for none."""
    known = [value for value in values if value is not None]
    return number(average(known), digits) + (f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else "")


def title(result: Mapping[str, Any]) -> str:
    """Model, request and seeds in one line."""
    forget = result["forget"]
    request = f"{result['model']}, {forget['count']} rows to forget ({forget['kind']})"
    return f"{request}, rho {result['rho']}, {seeds(result)}"


def seeds(result: Mapping[str, Any]) -> str:
    """The seeds of a run; a single one if they are equal."""
    given = result["seeds"]
    if len(set(given.values())) == 1:
        return f"seed {next(iter(given.values()))}"
    return ", ".join(f"{name} seed {seed}" for name, seed in given.items())


def times(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The durations of the parts of a run."""
    return [(words, duration(result["time"].get(name))) for name, words in TIMES.items()]


def provenance(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Where a result is from: commit, versions, device and more, to be quoted with its figures."""
    own = {"forget set": f"sha256 {result['forget']['sha256']}", "schema": result["schema_version"]}
    return facts({**result["provenance"], **own})


def facts(provenance: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values, with the versions in one line behind them."""
    rest = {name: value for name, value in provenance.items() if name != "versions"}
    versions = (provenance.get("versions") or {}).items()
    rest["versions"] = ", ".join(f"{name} {version}" for name, version in versions) or "-"
    return [(name, "-" if value is None else value) for name, value in rest.items()]


def forgotten_classes(result: Mapping[str, Any]) -> str | None:
    """Test accuracy on whole classes that were forgotten; None if there are none."""
    models = [("Original", result["original"]), ("Retrain", result.get("retrain") or {})]
    models.append((str(result["method"]), result["scores"]))
    values = [(name, scores.get("ta_forgotten")) for name, scores in models]
    texts = [f"{name} {number(value)}" for name, value in values if value is not None]
    return f"Test accuracy on the forgotten classes: {', '.join(texts)}" if texts else None


def per_row(result: Mapping[str, Any]) -> str | None:
    """How close the answers on the forget rows are to Retrain's, row by row; None if unknown."""
    figures = result.get("closeness") or {}
    names = {"original": "Original", "unlearned": str(result["method"]), "retrain": "a Retrain to the others"}
    values = [(name, figures.get(model, {}).get("js_forget")) for model, name in names.items()]
    texts = [f"{name} {number(value, 3)}" for name, value in values if value is not None]
    what = "Per row, Jensen-Shannon divergence to Retrain on the forget rows, in bits"
    return f"{what}: {', '.join(texts)}" if texts else None


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What is said below the table of scores, a line each."""
    return [text for text in (per_row(result), forgotten_classes(result), *own_measures(result)) if text is not None]


def own_figures(result: Mapping[str, Any], model: str) -> Mapping[str, float | None]:
    """The figures of ``config.evaluation.measure`` of ``unlearned``, ``original`` or ``retrain``; empty if unknown."""
    return (result.get("measures") or {}).get(model) or {}


def own_measures(result: Mapping[str, Any]) -> list[str]:
    """A line for each figure of ``config.evaluation.measure``: of the original, Retrain and the method."""
    names = {"original": "Original", "retrain": "Retrain", "unlearned": str(result["method"])}
    lines = []
    for figure in own_figures(result, "unlearned"):
        values = {words: own_figures(result, model).get(figure) for model, words in names.items()}
        lines.append(f"{figure}: {', '.join(f'{words} {number(value, 3)}' for words, value in values.items())}")
    return lines


def gives_no_guidance(attacker: Mapping[str, Any]) -> bool:
    """Whether the attacker is at chance on held-out outputs; False if that is unknown."""
    auc = attacker.get("auc_shadow")
    return auc is not None and not auc > NO_GUIDANCE_AUC


def speed(result: Mapping[str, Any]) -> str | None:
    """How many times longer Retrain takes, without and with the attackers' fit; None if unknown."""
    retrain, method = (result.get("retrain") or {}).get("ut_minutes"), result["scores"].get("ut_minutes")
    if not retrain or not method:
        return None
    text = f"Retrain takes {_ratio(retrain / method)} times as long as {result['method']}"
    attackers = result["time"].get("attackers_s")
    if not attackers:
        return text
    return f"{text}; {_ratio(retrain / (method + attackers / 60))} times with the attackers' fit counted"


def _ratio(ratio: float) -> str:
    return number(ratio, 2 if ratio < 10 else 0)
