"""One module per family: from a parity case to the outputs of this project's own code.

A module has `key(document) -> str`, which names the computation a case is about, and
`ADAPTERS: dict[str, Callable[[Case], Mapping[str, Tensor | ndarray | float]]]`, one function per
computation. A function builds its networks from the case's configuration alone, so that a new case
with another tag, other inputs or another configuration runs without new code.
"""
