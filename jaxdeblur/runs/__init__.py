"""What a run keeps on disk: lock, checkpoints, metric log, and the records of its evaluations."""
