"""Files of a workdir: records, checkpoints and what a run is."""
