"""The bounds of the rules of the claims on one hop from pretraining, by hand."""

FIXED = "2026-11-30"

RULES = {
    ("L6a", "reach"): ("above", 0.5, False, 1, "ratio"),
    ("L6a", "template"): ("above", 0.05, False, 1, 1),
    ("L6a", "needless"): ("below", 0.05, False, 2, 1),
    ("L6b", "gap"): ("above", 0.05, False, 3, 1),
    ("L6b", "repaired"): ("above", 0.05, False, 3, 1),
    ("L6c", "working"): ("below", 0.0, True, 2, 0.25),
    ("L6c", "all"): ("below", 0.05, True, 4, None),
}
