"""A run's folder on disk: lock, config, checkpoints, metric log and facts."""
