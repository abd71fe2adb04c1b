"""Where runs and batches lie: axes of a mesh, processes, memory."""
