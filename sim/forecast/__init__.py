"""Merges predicted from a few that were run, and the best one searched for: arrays in, arrays out.

Nothing here knows what a merge is run on: a callable gives the outcomes of strengths (``outcomes``). Gaps
of others follow by ``kriging``, accuracies with intervals by ``accuracy``; ``design`` says what to run first,
``search`` what to run next.
"""
