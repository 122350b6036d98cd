"""What a config must hold, and where recipes are found."""
