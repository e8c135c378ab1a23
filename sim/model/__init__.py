"""The small decoder: what it is, how it is trained, adapted, routed and read."""
