"""The bounds of the rules of the claims about forecasts of merges, by hand."""

FIXED = "2026-11-30"

RULES = {
    ("5+a", "better"): ("below", -0.01, False, 2, 1),
    ("5+a", "weak"): ("below", 0.05, False, 1, None),
    ("5+a", "strength"): ("above", 0.01, False, 1, 1),
    ("5+a", "depth"): ("within", 0.05, False, 2, 1),
    ("5+b", "error"): ("below", 0.05, False, 10, None),
    ("5+b", "coverage"): ("within", 0.03, False, 1, None),
    ("5+b", "better"): ("below", 0.0, False, 3, 1),
    ("5+b", "regret"): ("below", 0.02, False, 2, None),
    ("5+b", "share"): ("below", 0.15 + 1 / 253, False, 2, None),
    ("5+b", "contradicted"): ("below", 0.5, False, 2, None),
    ("5+b", "strength"): ("below", 0.05, False, 2, None),
    ("5+b", "overshoot"): ("above", 0.01, False, 3, 1),
    ("5+b", "number"): ("above", 0.01, False, 3, 1),
    ("5+e", "error"): ("below", 0.05, False, 5, None),
    ("5+e", "coverage"): ("within", 0.03, False, 1, None),
    ("5+e", "better"): ("below", 0.0, False, 3, 1),
    ("5+e", "regret"): ("below", 0.02, False, 2, None),
    ("5+e", "share"): ("below", 0.15 + 1 / 253, False, 2, None),
    ("5+e", "contradicted"): ("below", 0.5, False, 2, None),
}
