"""Layout of runs and batches: axes of a mesh, processes, memory."""
