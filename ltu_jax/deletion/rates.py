"""How often the claim's test was wrong where that was measured, by ``experiments/evidence_power.py``."""

FAKES = 230, 230
"""Models that had not forgotten, and those of them that the test refused."""
GENUINE = 100, 10
"""The same of models that had."""
RATES = (
    f"the claim's test refused {FAKES[1]} of {FAKES[0]} fakes and {GENUINE[1]} of {GENUINE[0]} genuine unlearnings of"
    " 90 digits, on ten seeds that its limits were not chosen on; docs/requests-measured.md"
)
