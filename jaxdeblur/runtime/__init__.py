"""The machine: compilation, memory, processes, device sharding and optional packages."""
