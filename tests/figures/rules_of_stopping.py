"""The bounds of the rules of the claim on how long to train, by hand."""

RULES = {
    ("3+", "sum"): ("above", 0.05, False, 2, 1),
    ("3+", "average"): ("above", 0.05, False, 1, 1),
    ("3+", "ceiling"): ("below", 0.05, False, 3, 1),
    ("3+", "damage"): ("above", 0.05, False, 3, 1),
}
