"""The runner: the main job and every named experiment, one schema, resumable."""
