"""Fields of a configuration that have another name than before."""

RENAMED = {
    "accumulate": "grad_accumulation",
    "augment": "augmentations",
    "batch_devices": "data_parallel",
    "chunk": "steps_per_dispatch",
    "compute": "compute_dtype",
}
"""Fields of a configuration by the names that they had before."""


def new_name(field: str) -> str | None:
    """Return what a field with a dotted name is called now; None if nothing changed.

    >>> new_name("base.chunk"), new_name("steps")
    ('base.steps_per_dispatch', None)
    """
    group, dot, name = field.rpartition(".")
    if group not in ("", "base") or name not in RENAMED:
        return None
    return group + dot + RENAMED[name]
