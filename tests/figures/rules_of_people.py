"""The bounds of the rules of the claims on a real language model, by hand."""

FIXED = "2026-11-30"

RULES = {
    ("L1a", "all"): ("below", 0.02, True, 8, None),
    ("L1a", "working"): ("below", 0.0, True, 3, 0.25),
    ("L1a", "likeliest"): ("below", 0.05, True, 12, None),
    ("L1b", "none"): ("below", 1 / 16 + 0.05, False, 3, None),
    ("L2", "gap"): ("above", 0.05, False, 2, 1),
    ("L2", "lower"): ("above", 0.05, False, 1, 1),
    ("L3a", "reach"): ("above", 0.7, False, 1, "ratio"),
    ("L3a", "template"): ("above", 0.05, False, 1, 1),
    ("L3a", "traces"): ("above", 0.05, False, 3, 1),
    ("L3b", "template"): ("above", 0.05, False, 1, 1),
    ("L3b", "traces"): ("above", 0.05, False, 3, 1),
    ("L4", "reach"): ("above", 0.7, False, 3, "ratio"),
    ("L4", "once"): ("below", 0.05, True, 6, None),
    ("L4", "without"): ("below", 0.05, True, 9, None),
    ("L4", "familiar"): ("above", 0.05, False, 1, 1),
    ("L5", "form"): ("above", 0.05, False, 3, 1),
    ("L5", "relations"): ("above", 0.05, False, 3, 1),
    ("L5+a", "better"): ("below", -0.01, False, 2, 1),
    ("L5+a", "close"): ("below", 0.1, False, 2, None),
    ("L5+b", "overshoot"): ("above", 0.7, False, 2, None),
    ("L5+b", "blind"): ("above", 0.05, False, 1, None),
    ("L5+b", "worse"): ("above", 0.01, False, 1, 1),
}
