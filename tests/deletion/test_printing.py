"""What the terminal says of a request: the figures of its receipt."""

import io
from pathlib import Path

from made_notice import made_receipt
from rich.console import Console

from ltu_jax.deletion.printing import FIGURES, print_request


def printed(receipt, is_new=True):
    stream = io.StringIO()
    print_request(receipt, Path("out/request-1"), is_new, Console(file=stream, width=120))
    return stream.getvalue()


def test_the_figures_of_the_receipt_stand_beside_each_other():
    receipt = made_receipt() | {"files_salted_sha256": {"model/a": "", "model/b": "", "report.html": ""}}
    text = printed(receipt)
    for name, words in FIGURES.items():
        if name not in receipt["evidence"]["after"]:
            continue
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{words} ")]
        digits = 3 if name.endswith("auc") else 1
        value, low, high = receipt["evidence"]["after"][name]
        before = receipt["evidence"]["before"][name][0]
        shown = [f"{number:.{digits}f}" for number in (before, value, low, high)]
        assert line.removeprefix(f"{words} ").replace(" to ", " ").split() == shown
    assert text.rstrip().endswith("receipt in out/request-1: receipt.json, model, report.html")
    lines = [(line, figure) for line in text.splitlines() for figure in (" 99.2", " 0.736") if figure in line]
    assert len({line.index(figure) + len(figure) for line, figure in lines}) == 1 < len(lines)  # flush right


def test_whether_forgetting_is_shown_is_said_and_why_not():
    shown = {"shown": True, "findings": [], "numbers": {}}
    assert "forgetting is shown\n" in printed(made_receipt() | {"claim": shown})
    missed = {"shown": False, "findings": ["too little was forgotten", "\x1b[31mred"], "numbers": {}}
    text = printed(made_receipt() | {"claim": missed})
    assert "forgetting is NOT SHOWN:\n- too little was forgotten\n- " in text and "\x1b" not in text
    assert "forgetting is" not in printed(made_receipt())  # as earlier versions made them


def test_a_request_that_was_done_before_says_when():
    receipt = made_receipt() | {"files": {"model/a": "", "report.html": ""}}  # of schema 1
    assert f"already done on {receipt['time']['finished']}" in printed(receipt, is_new=False)
    assert "already done" not in printed(receipt)
    assert printed(receipt).rstrip().endswith(": receipt.json, model, report.html")


def test_few_rows_have_no_range_that_is_a_point():
    receipt = made_receipt(earlier=False)
    receipt["evidence"]["rows"]["forget"] = 1
    receipt["evidence"]["after"] |= {"forget_accuracy": [100.0] * 3, "attack_auc": [1.0] * 3}
    lines = [line.split() for line in printed(receipt).splitlines()]
    assert ["2.5", "to", "100.0"] in [line[-3:] for line in lines if "forget rows" in " ".join(line)]
    assert ["1.000", "too", "few"] in [line[-3:] for line in lines]
