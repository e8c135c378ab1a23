"""The bounds of the rules of the paper's claims, by hand, apart from the rules themselves."""

import math

FIXED = "2026-11-29"

LN = {n: math.log(n) / 4 for n in (8, 10, 11, 16)}

# (number, rule): (side, margin, null in the tables?, lines, what the second cell is multiplied by)
RULES = {
    ("1a", "all"): ("below", 0.02, True, 4, None),
    ("1a", "working"): ("below", 0.0, True, 9, 0.25),
    ("1b", "none"): ("below", 0.05, True, 3, None),
    ("1+a", "composition_loss"): ("below", LN[16], True, 18, None),
    ("1+a", "composition_accuracy"): ("below", 15 / 64, True, 9, None),
    ("1+a", "instrument_loss"): ("below", LN[16], True, 20, None),
    ("1+a", "instrument_accuracy"): ("below", 15 / 64, True, 10, None),
    ("1+b", "nobody_loss"): ("below", LN[11], True, 20, None),
    ("1+b", "nobody_accuracy"): ("below", 10 / 44, True, 10, None),
    ("1+c", "nobody_loss"): ("below", LN[8], True, 20, None),
    ("1+c", "nobody_accuracy"): ("below", 7 / 32, True, 10, None),
    ("1+d", "nobody_loss"): ("below", LN[10], True, 20, None),
    ("1+d", "nobody_accuracy"): ("below", 9 / 40, True, 10, None),
    ("2a", "gap"): ("above", 0.05, False, 3, 1),
    ("2b", "ends"): ("above", 0.05, False, 1, 1),
    ("2b", "upper"): ("above", 0.05, False, 2, 1),
    ("2b", "lower"): ("above", 0.05, False, 2, 1),
    ("2+", "traces"): ("above", 0.05, False, 1, 1),
    ("2+", "facts"): ("within", 0.05, False, 1, 1),
    ("2+", "facts_too"): ("within", 0.05, False, 2, 1),
    ("3a", "reach"): ("above", 0.7, False, 1, "ratio"),
    ("3a", "ranks"): ("above", 0.7, False, 5, "ratio"),
    ("3a", "template"): ("above", 0.05, False, 1, 1),
    ("3a", "traces"): ("above", 0.05, False, 1, 1),
    ("3a", "only"): ("above", 0.05, False, 1, 1),
    ("3b", "template"): ("above", 0.05, False, 1, 1),
    ("3b", "traces"): ("above", 0.05, False, 4, 1),
    ("4a", "reach"): ("above", 0.7, False, 3, "ratio"),
    ("4a", "once"): ("below", 0.05, True, 3, None),
    ("4a", "without"): ("below", 0.05, True, 9, None),
    ("4a", "familiar"): ("above", 0.05, False, 2, 1),
    ("4b", "reach"): ("above", 0.7, False, 2, "ratio"),
    ("4b", "once"): ("below", 0.05, True, 3, None),
    ("4b", "without"): ("below", 0.05, True, 3, None),
    ("4b", "familiar"): ("above", 0.05, False, 1, 1),
    ("4c", "reach"): ("above", 0.7, False, 1, "ratio"),
    ("4c", "once"): ("below", 0.05, True, 9, None),
    ("4c", "without"): ("below", 0.05, True, 3, None),
    ("4c", "familiar"): ("above", 0.05, False, 1, 1),
    ("5", "template"): ("above", 0.05, False, 2, 1),
    ("5", "wording"): ("above", 0.05, False, 4, 1),
    ("5", "separates"): ("above", 0.05, False, 2, 1),
    ("5+c", "one0"): ("below", -0.01, False, 26, 1),
    ("5+c", "one1"): ("below", -0.01, False, 26, 1),
    ("5+c", "all0"): ("below", -0.01, False, 1, 1),
    ("5+c", "all1"): ("below", -0.01, False, 1, 1),
    ("5+d", "regret"): ("below", 0.05, False, 16, None),
}
