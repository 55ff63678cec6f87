"""The machine: its devices, processes, memory."""
