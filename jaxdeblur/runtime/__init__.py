"""The machine: compilation, memory, processes, devices and optional packages."""
