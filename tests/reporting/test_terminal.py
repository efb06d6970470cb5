"""What a terminal shows and what a log gets."""

import io
import re

import pytest
from made_audit import made_audit
from rich.console import Console

from ltu_jax.auditing.findings import as_json, missing
from ltu_jax.reporting import audit_table, terminal


def printed(result, width=80):
    stream = io.StringIO()
    terminal.print_result(result, Console(file=stream, width=width))
    return stream.getvalue()


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return line


def test_the_table_holds_the_numbers_of_the_result(result):
    text = printed(result)
    assert re.findall(r"[\d.]+", row(text, "Retrain  ")) == ["5.33", "99.91", "94.17", "13.34", "4.00"]
    assert re.findall(r"[\d.]+", row(text, "ltu  ")) == (
        ["6.67", "1.34", "99.63", "0.28", "93.06", "1.11", "16.68", "3.35", "1.52", "0.50"]
    )
    assert re.findall(r"[\d.]+", row(text, "Original ")) == (
        ["0.11", "5.22", "100.00", "0.09", "94.72", "0.55", "0.22", "13.12", f"{4.745:.2f}"]
    )
    assert re.findall(r"[\d.]+", row(text, "spread ")) == ["1.31", "0.07", "0.83", "2.69", f"{1.225:.2f}"]


def test_numbers_of_a_column_end_in_one_place(result):
    text = printed(result)
    places = [row(text, name).index(".") for name in ("Original", "Retrain  ", "ltu  ")]
    assert len(set(places)) == 1
    assert len({row(text, name).rindex(")") for name in ("Original", "ltu  ", "spread")}) == 1


@pytest.mark.parametrize("method", ["ltu", "gradient_ascent", "mypackage.methods:my_own_unlearning"])
def test_eighty_columns_hold_the_table_and_break_no_number(result, method):
    result["scores"] = dict.fromkeys(result["scores"], 100.0)
    result["gap"] = dict.fromkeys(result["gap"], 99.99)
    text = printed(result | {"method": method})
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("100.00 (99.99)") == 4


def test_a_full_table_stands_closer_before_it_breaks_a_name(result):
    result["scores"] = dict.fromkeys(result["scores"], 100.0)
    result["gap"] = dict.fromkeys(result["gap"], 9.99)
    text = printed(result | {"original_gap": None})
    assert row(text, "Original").count("-") == 2  # neither a gap nor a time, and the name is whole


def test_a_log_gets_no_colour_codes_and_a_terminal_does(result):
    assert "\x1b" not in printed(result)
    stream = io.StringIO()
    terminal.print_result(result, Console(file=stream, force_terminal=True, color_system="standard"))
    assert "\x1b[" in stream.getvalue()


def test_attackers_warnings_and_times_are_told(result):
    text = printed(result, width=200)
    assert re.findall(r"[\d.]+", row(text, "sorted")) == ["0.701", "0.713", "0.521"]
    assert "gives no guidance" in row(text, "classwise")
    assert "gives no guidance" not in row(text, "sorted")
    assert "Warning: it forgot too little; raise config.method.epochs" in text
    assert (
        row(text, "Time")
        == "Time: unlearning 30 s, compilation 18 s, original 37 s, attackers 1 min 30 s, Retrain 4 min 00 s"
    )
    assert "8.00 times as long as ltu; 2.00 times" in text


def test_the_divergence_of_the_forget_rows_is_told_where_it_is_known(result):
    assert "Per row" not in printed(result)
    figures = {"unlearned": {"js_forget": 0.1234}, "original": {"js_forget": 0.5}, "retrain": {"js_forget": None}}
    words = "Per row, Jensen-Shannon divergence to Retrain on the forget rows, in bits: Original 0.500, ltu 0.123"
    assert words == row(printed(result | {"closeness": figures}, width=200), "Per row")
    figures["retrain"]["js_forget"] = 0.0617
    text = printed(result | {"closeness": figures}, width=200)
    assert row(text, "Per row") == f"{words}, a Retrain to the others 0.062"


def test_figures_of_ones_own_are_told_a_line_each(result):
    measures = {"unlearned": {"ece": 0.25, "nll": 1.5}, "original": {"ece": 0.125, "nll": 2.0}, "retrain": None}
    text = printed(result | {"measures": measures}, width=200)
    assert row(text, "ece") == "ece: Original 0.125, Retrain -, ltu 0.250"
    assert row(text, "nll") == "nll: Original 2.000, Retrain -, ltu 1.500"


def test_a_result_without_retrain_says_so(without_retrain):
    text = printed(without_retrain)
    assert "No Retrain model to compare with." in text
    assert "(" not in row(text, "ltu  ")


def test_a_result_of_nothing_prints_dashes(with_nothing):
    text = printed(with_nothing)
    assert row(text, "ltu  ").split() == ["ltu"] + ["-"] * 6
    assert "None" not in text


def test_brackets_of_a_name_are_not_read_as_markup(result):
    assert "[bold]x[/red]" in printed(result | {"dataset": "[bold]x[/red]", "warnings": ["[/]"]})


def audited(audit, width=80):
    stream = io.StringIO()
    terminal.print_audit(audit, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_table_of_an_audit_fits_eighty_columns_and_holds_its_numbers():
    text = audited(made_audit())
    assert max(map(len, text.splitlines())) <= 80
    assert row(text, "held-out AUC").split()[2:] == [
        "0.571",
        "0.550..0.592",
        "0.957",
        "0.491..0.512",
        "0.031",
        "<.001",
        "found",
    ]
    assert row(text, "relearned, points").split()[2:] == [
        "36.12",
        "32.12..40.12",
        "49.50",
        "1.10..2.20",
        "5.70",
        "-",
        "no",
        "test",
    ]
    assert "Audit of salun on digits" in text and "3 of 7 tests tell the model" in text


def test_what_an_audit_found_is_told_in_words():
    text = audited(made_audit(), width=300)
    for line in audit_table.lines(made_audit()):
        assert f"{line.title}: {line.sentence}\n" in text
    assert "Note: the forget rows were drawn by lot\n" in text and text.endswith("Time: 1 min 40 s\n")
    audit = made_audit(notes=["[bold]\x1b[2J"], findings=[as_json(missing("rmia", "[/] none"))], verdict={"rmia": None})
    text = audited(audit)
    assert "Note: [bold]\\x1b[2J" in text and "Not done: [/] none." in text
    assert row(text, "RMIA AUC").split()[2:] == [*"------", "not", "done"]


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(terminal, "monotonic", clock)
    return clock


def test_a_log_gets_a_line_each_tenth_of_slow_work(clock):
    stream = io.StringIO()
    with terminal.progress_for(stream)("original", 400) as advance:
        for _ in range(400):
            clock.now += 1.0
            advance(1)
    lines = stream.getvalue().splitlines()
    assert lines[2] == "original: 120/400 steps (30 %), 4 min 40 s left"
    assert lines[-1] == "original: 400 steps in 6 min 40 s"
    assert len(lines) == 10


def test_a_log_gets_no_line_twice_within_five_seconds(clock):
    stream = io.StringIO()
    with terminal.progress_for(stream)("original", 400) as advance:
        for _ in range(100):
            clock.now += 0.12
            advance(4)
    lines = stream.getvalue().splitlines()
    # 5 s are reached at the 42nd advance, 10 s at the 84th.
    assert [line.split()[1] for line in lines[:-1]] == ["168/400", "336/400"]
    assert lines[-1] == "original: 400 steps in 12 s"


def test_what_compiling_took_is_told_and_not_taken_for_the_speed_of_the_rest(clock):
    stream = io.StringIO()
    with terminal.progress_for(stream)("trial 1 of 3, unlearning", 10) as advance:
        clock.now = 61.0
        advance(1)
        for _ in range(9):
            clock.now += 3.0
            advance(1)
    first, second, *_ = stream.getvalue().splitlines()
    assert first == "trial 1 of 3, unlearning: 1/10 steps, 1 min 01 s after the start"
    assert second == "trial 1 of 3, unlearning: 3/10 steps (30 %), 21 s left"


def test_steps_of_an_earlier_call_are_no_measure_of_the_rest(clock):
    """500 of 1,000 are there at once; the next takes 61 s with compiling, each after it 3 s."""
    stream = io.StringIO()
    with terminal.progress_for(stream)("unlearning", 1000) as advance:
        advance(500)
        clock.now = 61.0
        advance(1)
        for _ in range(199):
            clock.now += 3.0
            advance(1)
    first, second, *_ = stream.getvalue().splitlines()
    assert first == "unlearning: 501/1000 steps, 1 min 01 s after the start"
    assert second == "unlearning: 600/1000 steps (60 %), 20 min 00 s left"


def test_work_that_stops_says_where_and_raises_on(clock):
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), terminal.progress_for(stream)("original", 400) as advance:
        advance(120)
        raise KeyboardInterrupt
    assert stream.getvalue() == "original: stopped at 120/400 steps\n"


@pytest.mark.parametrize("total", [0, 1])
def test_no_work_is_no_division_by_zero(clock, total):
    stream = io.StringIO()
    with terminal.progress_for(stream)("original", total) as advance:
        clock.now = 20.0
        advance(0)
        advance(total)
    assert stream.getvalue() == f"original: {total} steps in 20 s\n"


def test_progress_goes_to_standard_error(capsys):
    with terminal.progress_for()("original", 4) as advance:
        advance(4)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("original: 4 steps in ")


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with terminal.progress_for(stream)("[x]", 4) as advance:
        advance(3)
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue())
    assert "[x]" in shown
    assert "3/4" in shown
    assert "steps" not in shown
