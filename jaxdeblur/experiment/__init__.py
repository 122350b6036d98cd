"""From a config to a scored run."""
