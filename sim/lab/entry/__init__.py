"""How commands begin and end, and what they return in Python."""
