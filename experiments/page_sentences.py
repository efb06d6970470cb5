"""The sentences of README.md and docs/ that tell measured figures, each made of its result files: see ``pages.py``."""

import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import differences
from experiments.page_tables import (
    EPOCHS_OF_RETRAIN,
    SCORES,
    default_runs,
    figures,
    json_lines,
    read,
    retrain_over_ltu,
)
from ltu_jax.tabling import noise
from ltu_jax.tabling.runs import Run, Seeds
from ltu_jax.tabling.runs import read as read_runs

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
GAP_AND_FLOOR = ("gap", "retrain_spread")
PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth"}


def sentences(results: Path) -> Iterator[tuple[str, str]]:
    """Pages, relative to the root, and what each must say, on one line.

    Args:
      results: the folder of the result files.
    """
    for page, found in SENTENCES.items():
        for make in found:
            for sentence in make(results):
                yield page, sentence


def in_readme(results: Path) -> Iterator[str]:
    """LTU's defaults in README.md."""
    runs = default_runs(results)
    at = runs["cifar10_jpeg", 0.1]
    mine, floor = ({name: mean(one[of][name] for one in at) for name in ("mean", *SCORES)} for of in GAP_AND_FLOOR)
    excess = {name: mine[name] - floor[name] for name in SCORES}
    part = part_in_words(excess["ra"] / sum(excess.values()))
    yield f"on cifar10_jpeg it is {mine['mean'] / floor['mean']:.1f} times as large, and {part} of the excess is lost"
    cheap, dear = (1 / retrain_over_ltu(results, runs["cifar10_jpeg", fraction]) for fraction in (0.1, 0.5))
    yield f"10 % takes {cheap:.1f} of a Retrain's flops, 50 % takes {dear:.1f}"


def of_the_defaults(results: Path) -> Iterator[str]:
    """What is said of LTU's defaults on docs/results.md."""
    of = {fraction: runs for (name, fraction), runs in default_runs(results).items() if name == "cifar10_jpeg"}
    lost = [mean(one["original"]["ra"] - one["scores"]["ra"] for one in runs) for runs in of.values()]
    yield f"Remaining accuracy falls by {listed(lost, '.1f')} points at 10, 30 and 50 % of cifar10_jpeg"
    errors = [mean(one["retrain"]["ua"] for one in runs) for runs in of.values()]
    yield f"its error on the forget rows is {listed(errors, '.0f')} % at 10, 30 and 50 %"
    runs = read_runs([str(results / "defaults" / "cifar10_jpeg.jsonl")])
    nearer, further = [], []
    for fraction in of:
        some = [run for run in runs if run.result["forget"]["fraction"] == fraction]
        nearer.append(apart(some, "original", "unlearned"))
        further.append(apart(some, "unlearned", "retrain"))
    yield f"closer to Retrain's than the original's are, by {listed(nearer)} (95 %) at 10, 30 and 50 %"
    yield f"further away than another Retrain's, by {listed(further)}."
    js = [
        mean(run.close(model)["js_forget"] for run in runs if run.result["forget"]["fraction"] == 0.1)
        for model in ("unlearned", "original", "retrain")
    ]
    yield f"at 10 % {js[0]:.3f} bits, the original {js[1]:.3f}, another Retrain {js[2]:.3f}"


def of_the_study(results: Path) -> Iterator[str]:
    """What is said of the table of all methods on docs/results.md."""
    runs = read_runs([str(results / "study" / "thirty.jsonl")])
    gap, margin = ({line[0]: line for line in differences.table(runs, name)} for name in ("gap", "margin_forget"))
    labels = list(gap)
    yield f"**By the mean gap {labels[0]} is first**, by {float(gap[labels[1]][3].split()[0]):.1f} points"
    more, half = float(margin["LTU"][3].split()[0]), float(margin["LTU"][4])
    yield f"**Row by row {next(iter(margin))} is nearer to Retrain than LTU**, by {more:.2f} ± {half:.2f}"
    ra = {label: mean(run.result["scores"]["ra"] for run in runs if run.label == label) for label in ("MSG", "FT")}
    yield f"(MSG {ra['MSG']:.1f}, FT {ra['FT']:.1f})"
    yield f"two of these lie {float(gap[differences.RETRAIN][2].split()[0]):.1f} points apart"
    ours = [run.result for run in runs if run.label == "LTU"]
    warned = sum(bool(one["warnings"]) for one in ours)
    others = "all" if all(run.result["warnings"] for run in runs if run.label != "LTU") else "not all"
    yield f"{in_words(warned).capitalize()} of its {in_words(len(ours))} runs [warn]"
    yield f"and {others} runs of all others."
    remain = ours[0]["forget"]["count"] / ours[0]["forget"]["fraction"] - ours[0]["forget"]["count"]
    passed = EPOCHS_OF_RETRAIN * remain / 1000
    yield f"Retrain takes {passed:.0f} / {passed:.0f}"
    msg = next(run.result for run in runs if run.label == "MSG")
    work = lambda one: one["cost"]["forward_images"] + 2 * one["cost"]["backward_images"]  # noqa: E731
    yield f"MSG costs {part_in_words(work(msg) / (3000 * passed))} of one"


def of_the_parts(results: Path) -> Iterator[str]:
    """What is said of each part of LTU on docs/results.md."""
    runs = read_runs([str(results / "study" / "parts_fixed.jsonl")])
    rand, meta, add, without_forgetting, without_remembering = (
        f"LTU ({part})"
        for part in ("w/ RandL in the support", "w/ MetaOpt", "w/ GradAdd", "w/o ForFeed", "w/o RemFeed")
    )

    def larger(measure: str, label: str, base: str) -> str:
        return difference(
            *(
                {run.seeds: differences.value(run, run.label, measure) for run in runs if run.label == name}
                for name in (label, base)
            )
        )

    def score(label: str, name: str, whose: str = "scores") -> float:
        return mean(run.result[whose][name] for run in runs if run.label == label)

    def backward(label: str) -> float:
        return mean(run.result["cost"]["backward_images"] for run in runs if run.label == label)

    yield f"they take {larger('gap', 'LTU', rand)} points off the gap"
    yield f"and {larger('margin_forget', 'LTU', rand)} off the margin"
    yield f"for {backward(rand) / backward('LTU'):.1f} times the images backward"
    yield f"the gap is {larger('gap', meta, rand)} points larger with it"
    yield f"the margin {larger('margin_forget', meta, rand)}"
    yield f"and {backward(meta) / backward(rand):.1f} times the images pass backward"
    yield f"Without it the gap changes by {larger('gap', add, 'LTU')} points"
    cosines = [cosine for one in json_lines(results / "study" / "cosines.jsonl") for cosine in one["cosine"]]
    size, conflict = statistics.median(map(abs, cosines)), mean(cosine < 0 for cosine in cosines)
    yield f"(median |cosine| {size:.2f}, negative in {100 * conflict:.0f} % of the steps)"
    yield f"half as many steps forget, and UA is {score('LTU (w/ Iterative Grad)', 'ua'):.1f}"
    ua, retrain = (score(without_forgetting, "ua", whose) for whose in ("scores", "retrain"))
    added = larger("gap", without_forgetting, "LTU")
    yield f"Without it {added} points are added, and UA is {ua:.1f} (Retrain's {retrain:.1f})"
    yield f"RA falls to {score(without_remembering, 'ra'):.1f}"
    seeds = {run.seeds for run in runs}
    gap_there, gap_here = (
        mean(run.result["gap"]["mean"] for run in some if run.label == "LTU" and run.seeds in seeds)
        for some in (read_runs([str(results / "study" / "thirty.jsonl")]), runs)
    )
    yield f"there LTU's gap over these {in_words(len(seeds))} was {gap_there:.2f}, here it is {gap_here:.2f}"


def of_whole_classes(results: Path) -> Iterator[str]:
    """What is said of whole classes on docs/results.md."""
    gaps, other = (
        {one["label"]: one["result"]["gap"]["mean"] for one in json_lines(results / "cifar10_jpeg" / f"{kind}.jsonl")}
        for kind in ("class", "subclass")
    )
    first, second = sorted(gaps, key=gaps.__getitem__)[:2]
    yield f"{first} ({gaps[first]:.2f}) and {second} ({gaps[second]:.2f}) are closest"
    untouched = json_lines(results / "cifar10_jpeg" / "subclass.jsonl")[0]["result"]["original_gap"]["mean"]
    best = untouched - min(other.values())
    yield f"nothing comes closer than doing nothing ({untouched:.2f}) by more than {best:.1f} points"


def of_a_whole_job(results: Path) -> Iterator[str]:
    """The times of a whole job by hand on docs/results.md."""
    runs = [read(results / "cifar10_jpeg_small" / f"seed-{seed}.json")["time"] for seed in (0, 1)]
    minutes = {name: sorted(run[name] / 60 for run in runs) for name in runs[0]}
    yield (
        f"the original {minutes['original_s'][0]:.1f}, Retrain {mean(minutes['retrain_s']):.1f}, three shadows and the"
        f" attackers {mean(minutes['attackers_s']):.0f}, unlearning {spanned(minutes['unlearn_s'], '.1f')}."
    )


def of_calibration(results: Path) -> Iterator[str]:
    """What is said of calibration on docs/requests-measured.md."""
    seeds = [read(results / "calibration" / f"seed-{seed}.json") for seed in range(3)]
    others = [
        min(look["retrain_gap"] for look in trial["looks"])
        for one in seeds
        for trial in one["calibration"]["trials"]
        if trial["learning_rate"] != seeds[0]["calibration"]["trials"][0]["learning_rate"]
    ]
    yield f"tried leave {spanned(others, '.1f')} points even at the best of their looks"


def of_few_images(results: Path) -> Iterator[str]:
    """What is said of few images on docs/requests-measured.md."""
    lines = json_lines(results / "few_images.jsonl")
    by_count = {count: [-one["remain"] for one in lines if one["count"] == count] for count in (1, 3, 10, 30, 100)}
    few, more = ([mean(by_count[count]) for count in counts] for counts in ((1, 3, 10), (30, 100)))
    worst = max(max(by_count[count]) for count in (1, 3, 10))
    yield f"A few images cost {spanned(few, '.1f')} points on the rows that stay ({worst:.0f} at worst)"
    yield f"30 and 100 cost {spanned(more, '.0f')}."


def of_ten_requests(results: Path) -> Iterator[str]:
    """What is said of ten requests in a row on docs/requests-measured.md."""
    found = read(results / "requests_in_a_row" / "seed-0.json")
    later, once = found["in_a_row"][1:], found["at_once"]
    last = later[-1]
    errors, aucs = ([one[f"earlier_{name}"] for one in later] for name in ("error", "attack_auc"))
    retrain = [one["retrain_ua"] for one in found["in_a_row"]]
    yield f"is {spanned(errors, '.0f')} % (Retrains: {spanned(retrain, '.0f')} %)"
    yield f"(AUC {spanned(aucs, '.2f')}, where the one request leaves {once['attack_auc']:.2f})"
    yield f"{last['ra']:.1f} against {once['ra']:.1f} % on the rows that stay"
    yield f"{last['ta']:.1f} against {once['ta']:.1f} % on test rows"
    yield f"{last['gap']:.1f} points against {once['gap']:.1f}"


def of_a_quarter(results: Path) -> Iterator[str]:
    """What is said of a quarter of cifar10_jpeg on docs/requests-measured.md."""
    rows = json_lines(results / "evidence_power" / "cifar10_jpeg_quarter.jsonl")
    fakes = [row for row in rows if not row["genuine"]]
    refused = [row for row in fakes if not row["accepted"]]
    shown = [row["kind"] for row in rows if row["genuine"] and row["accepted"]]
    both = "both Retrains" if {"Retrain 1", "Retrain 2"} <= set(shown) else "not both Retrains"
    others = [name for name in shown if not name.startswith("Retrain")]
    yield f"{'all' if refused == fakes else 'not all'} {in_words(len(fakes))} fakes are refused, {both} and"
    yield f"{' and '.join(name.replace(',', ' at') for name in others)} are shown"
    yield f"and the {in_words(sum(row['genuine'] for row in rows) - len(shown))} others are not"
    of = {row["kind"]: row for row in rows}
    still = [of[name] for name in ("RandL", "SalUn", "NegGrad+", "SCRUB")]
    aucs = [one["auc"] for one in still]
    left = [100 * (one["auc"] - 0.5) / (one["auc_before"] - 0.5) for one in still]
    yield f"left {spanned(left, '.0f')} % of what an attacker knew (AUC {spanned(aucs, '.2f')})"
    lost = [of[name]["remain_before"] - of[name]["remain_after"] for name in ("LTU", "LTU, other randomness")]
    yield f"LTU at rho 0.3 lost {spanned(lost, '.0f')} points of accuracy"


def of_a_tenth(results: Path) -> Iterator[str]:
    """What is said of a tenth of cifar10_jpeg on docs/requests-measured.md."""
    rows = json_lines(results / "evidence_power" / "cifar10_jpeg_tenth.jsonl")
    ours = [row for row in rows if row["kind"] in ("LTU", "LTU, other randomness")]
    lost = [row["lost_remain"] for row in ours]
    shown = sum(row["accepted"] for row in ours)
    yield f"LTU at rho 0.3 is shown in {in_words(shown)} of {in_words(len(ours))} cases"
    yield f"{spanned(lost, '.1f')} points lost on remaining rows"
    others = [row for row in rows if row["genuine"] and not row["kind"].startswith(("LTU", "Retrain"))]
    refused = [row for row in others if not row["accepted"]]
    kinds = len({row["kind"] for row in others})
    yield f"Of {in_words(kinds)} other methods {in_words(len(refused))} of {in_words(len(others))} models are refused."
    much = [row["auc"] for row in refused if row["kind"] == "NegGrad+"]
    too_far = [row["auc"] for row in refused if row["kind"] != "NegGrad+"]
    yield f"(NegGrad+, AUC {spanned(much, '.2f')})"
    yield f"(RandL, SalUn, BadT; AUC {spanned(too_far, '.2f')})"


def of_the_peers(results: Path) -> Iterator[str]:
    """What is said of compiling beside PyTorch on docs/speed.md."""
    ours, theirs = [], []
    for width in (16, 64):
        found = figures(results / "speed" / f"peers{width}.txt", words=2)
        ours.append(float(found["jax ltu"][-2]))
        theirs.append(float(found["compile func"][-2]))
    said = f"took {ours[0]:.0f} s at width 16 and {ours[1]:.0f} s at width 64; under `torch.compile`"
    yield f"{said} {theirs[0]:.0f} and {theirs[1]:.0f}."


def of_retraining(results: Path) -> Iterator[str]:
    """What is said of LTU beside Retrain on docs/speed.md."""
    first, _, second = (results / "speed" / "end_to_end.txt").read_text().partition("Another day")
    days = [
        {line.split()[1]: line.split()[2:] for line in day.splitlines() if line.startswith("0  ")}
        for day in (first, second)
    ]
    long, short = days[0]["182:multistep"], days[1]["30x25"]
    yield f"mean gap {long[3]} one day and {short[3]} another"
    yield (
        f"{float(long[4]):.1f} times LTU's flops and {float(long[5]):.1f} times its seconds"
        f" ({float(long[1]):,.0f} against {float(long[2]):.0f};"
    )
    yield f"With the attackers it is {float(long[6]):.1f} and {float(long[7]):.1f} times"
    yield f"(test accuracy {short[0]} against {long[0]})"
    yield f"**{float(short[4]):.1f} times LTU's flops, {float(short[5]):.1f} times its seconds**"
    yield f"With the attackers it is {short[6]} and {short[7]} times"
    worse, longer = days[1]["20x16@0.05"], days[1]["24x16@0.05"]
    yield f"({worse[0]}, {float(worse[4]):.1f} times the flops) and 24 of them ({longer[0]})"
    at_100 = [days[0][epochs] for epochs in ("60", "20")]
    said = [f"{float(one[0]):.1f} at {float(one[4]):.1f}" for one in at_100]
    yield f"60 epochs reach {said[0]} times, and 20 reach {said[1]}."


def of_an_h100(results: Path) -> Iterator[str]:
    """What is said of one GPU on docs/speed.md."""
    text = " ".join((results / "speed" / "gpu.txt").read_text().split())
    find = lambda pattern: float(re.findall(pattern, text)[0])  # noqa: E731
    epoch, whole = find(r"40,500 images ([\d.]+) s"), find(r"by multiplication ([\d.]+) s")
    ltu, one, over = find(r"with it ([\d.]+) s"), find(r"\((\d+) ms a step\)"), find(r"Retrain over LTU ([\d.]+)")
    yield f"An epoch of Retrain (40,500 images) takes {epoch:.2f} s, 182 of them {whole:.0f} s."
    yield f"LTU's 123 steps with N = 3 take {ltu:.1f} s, {over:.0f} times less"
    yield f"One step is {one:.0f} ms."
    compiling = find(r"compiling ([\d.]+) s")
    yield f"Compiling LTU takes {compiling:.0f} s."


def of_freed_memory(results: Path) -> Iterator[str]:
    """What keeping freed memory is worth on docs/speed.md."""
    text = (results / "speed" / "freed_memory.txt").read_text()
    before, after = (
        re.findall(rf" 8 +{name} +(\d+) \[.*?\] +(\d+) \[.*?\] +\d+% +([\d,]+)", text)[0]
        for name in ("glibc's own", "kept")
    )
    yield f"takes {after[0]} ms instead of {before[0]} on two cores, and {after[1]} ms of CPU instead of {before[1]}"
    yield f"{before[2]} pages a step were cleared before, {after[2].replace('0', 'none')} then"


def of_several_seeds(results: Path) -> Iterator[str]:
    """What is said of several models in one program on docs/speed.md."""
    at_once = figures(results / "speed" / "shadows.txt", words=3)
    ratio = {
        (model, step): float(at_once[f"{model} {step} 4"][-1])
        for model in ("resnet8", "vit_micro")
        for step in ("plain", "ltu")
    }
    resnet, vit = ([ratio[model, step] for step in ("plain", "ltu")] for model in ("resnet8", "vit_micro"))
    yield f"four ResNet-8 by `vmap` take {resnet[0]:.1f} (training) and {resnet[1]:.1f} times (LTU) as long a model"
    yield f"four ViT-Micro {vit[0]:.2f} and {vit[1]:.2f}."
    text = (results / "speed" / "seeds.txt").read_text()
    vits, digits = (re.findall(r"^num_seeds, .*? +[\d.]+ +([\d.]+) ", part, re.M) for part in text.split("digits.py"))
    yield f"take {digits[0]} (digits) and {vits[0]} (`digits_vit`) of the time"
    yield f"In one program they take {digits[1]} and {vits[1]}."


def of_many_rows(results: Path) -> Iterator[str]:
    """What is said of 50,000 remaining rows on docs/speed.md."""
    found = figures(results / "speed" / "scaling.txt", words=2)["remain 50000"]
    _, _, draw, init, svc = map(float, found)
    yield f"{init:.0f} s for features and neighbours, once a run; {svc:.0f} s for the evaluating SVC"
    yield f"{draw:.2f} s to draw a step"


def of_the_audit(results: Path) -> Iterator[str]:
    """How the first line of an audit is read on docs/audits.md."""
    findings = {one["audit"]: one for one in read(results / "audits" / "cifar10_jpeg-ltu-seed0.json")["findings"]}
    one = findings["held_out"]
    (low, high), now, before = one["floor"], one["unlearned"], one["original"]
    yield (
        f"was {before['value']:.3f} before, is {now['value']:.3f} now, and {low:.3f} to {high:.3f} for Retrains;"
        f" an AUC further than {now['smallest']:.3f} from ½"
    )


def mean(values: Iterable[Any]) -> float:
    """The mean."""
    return statistics.fmean(values)


def half_width(interval: noise.Interval) -> float:
    """Half of what an interval spans."""
    return (interval.high - interval.low) / 2


def apart(runs: list[Run], one: str, other: str) -> str:
    """How much further from Retrain, by the margins of forget rows, one model lies than another, with its interval."""
    return difference(*({run.seeds: value(run, model) for run in runs} for model in (one, other)))


def difference(one: Mapping[Seeds, float], other: Mapping[Seeds, float]) -> str:
    """How much larger the one is, seed by seed, with its 95 % interval."""
    found = noise.difference(one, other)
    assert found is not None
    return f"{found.mean:z.2f} ± {half_width(found):.2f}"


def value(run: Run, model: str) -> float:
    """Mean |margin difference| to Retrain on forget rows."""
    found = run.close(model)["margin_forget"]
    assert found is not None
    return found


def in_words(number: int) -> str:
    """``seven``; from 13 on in digits."""
    return WORDS[number] if number < len(WORDS) else str(number)


def part_in_words(share: float) -> str:
    """``a fifth``; a smaller share in percent."""
    whole = round(1 / share)
    return PARTS[whole] if whole in PARTS and abs(whole * share - 1) < 0.1 else f"{100 * share:.0f} %"


def listed(values: Sequence[Any], form: str = "") -> str:
    """``a, b and c``."""
    *first, last = (format(value, form) for value in values)
    return f"{', '.join(first)} and {last}"


def spanned(values: Sequence[float], form: str) -> str:
    """``least to most``."""
    return f"{min(values):{form}} to {max(values):{form}}"


SENTENCES: Mapping[str, Sequence[Callable[[Path], Iterator[str]]]] = {
    "README.md": (in_readme,),
    "docs/results.md": (of_the_defaults, of_the_study, of_the_parts, of_whole_classes, of_a_whole_job),
    "docs/requests-measured.md": (of_calibration, of_few_images, of_ten_requests, of_a_quarter, of_a_tenth),
    "docs/speed.md": (of_the_peers, of_retraining, of_an_h100, of_freed_memory, of_several_seeds, of_many_rows),
    "docs/audits.md": (of_the_audit,),
}
"""What makes the sentences of each page."""
