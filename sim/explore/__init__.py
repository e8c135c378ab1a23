"""The explorer: the closed forms under sliders, on one page that works from disk."""
