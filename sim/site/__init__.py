"""The site: theory with its mathematics, figures, notebooks with outputs and the API, as pages on disk."""
