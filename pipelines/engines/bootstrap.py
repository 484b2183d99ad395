"""What Ray and SLURM call on another machine: self-contained, since it is sent there by value.

The package `pipelines` is registered by its place, as the worker does it, so that nothing else of
the program comes along; the place must be the same on all machines (a shared folder).
"""

from __future__ import annotations


def call(package_dir: str, function: bytes, tasks: bytes, done_path: str | None) -> None:
    """Call a pickled function for each of the pickled tasks.

    done_path: file that gets a line with the number of each task that is done; those in it are
    left out.
    """
    import importlib.util
    import pickle
    import sys
    from pathlib import Path

    if "pipelines" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "pipelines",
            str(Path(package_dir) / "__init__.py"),
            submodule_search_locations=[package_dir],
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["pipelines"] = package
        spec.loader.exec_module(package)
    done = set()
    if done_path is not None and Path(done_path).exists():
        done = {int(line) for line in Path(done_path).read_text().split()}
    work = pickle.loads(function)
    for number, task in pickle.loads(tasks):
        if number in done:
            continue
        work(task, lambda part: None)
        if done_path is not None:
            with open(done_path, "a") as stream:
                stream.write(f"{number}\n")
