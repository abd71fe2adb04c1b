"""Problems of the size of the number of tasks, solved on the device.

Fixed iterations, no host call-back and no branch: they run under ``jit`` and ``vmap``.
"""
