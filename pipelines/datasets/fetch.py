"""`i2v download` of published data and weights: plan, fetch, check, unpack, report.

What is here already is not fetched again; what is begun goes on. One file that cannot be had does
not keep the others from coming: what is complete stays complete, and the run ends with one error.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.datasets.adopt import Adopted, adopt, known_files
from pipelines.datasets.fetch_config import FetchRequest, Source, YoutubeSource
from pipelines.datasets.fetch_plan import (
    PlanRow,
    bytes_needed,
    command_of,
    free_bytes,
    is_selected,
    label_of,
    open_web,
    plan_source,
    take_over,
)
from pipelines.datasets.unpack import growth_of, unpack_all
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import folder_lock, read_json, write_json
from pipelines.io.archives import Report
from pipelines.io.download import (
    Fetched,
    Meter,
    SourceClosed,
    Task,
    Unavailable,
    fetch_all,
    remove_litter,
)
from pipelines.io.fetchers.video_list import coverage, read_table
from pipelines.io.fetchers.web import Web
from pipelines.io.manifest import Manifest, now

MISSING = "missing.json"
_SHOWN_FAILURES = 5
_REMEDIES = ("put them into", "then run", "to fix", "or", "or else")


def fetch(request: FetchRequest, work: Work) -> dict[str, Any]:
    """Do what the request says; see `FetchRequest`.

    Result: dataset, folder, subset, files (name, bytes, state per file), num_files,
    num_files_here, bytes_fetched, unpacked, missing (name -> reason), coverage (per split, for
    lists of videos), next (the command to type).  Raises UserError.
    """
    _check_subset(request)
    if request.dry_run:
        with open_web(request) as web:
            return _Run(request, work, web).describe()
    if request.verify:
        return _verify(request, work)
    _check_terms(request)
    request.folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(request.folder) as is_ours:
        if not is_ours:
            raise UserError(
                f"a download of '{request.dataset}' is already running",
                {"folder": request.folder, "to fix": "wait for it to end, or stop it"},
            )
        with open_web(request) as web:
            return _Run(request, work, web).carry_out()


def _check_subset(request: FetchRequest) -> None:
    known = request.sources.subsets
    if request.subset is not None and request.subset not in known:
        raise UserError(
            f"'{request.dataset}' has no part '{request.subset}'",
            {"known": ", ".join(known)},
            EXIT_USAGE,
        )


def _check_terms(request: FetchRequest) -> None:
    """Terms are accepted once per folder; the manifest remembers when."""
    if not request.sources.needs_acceptance or request.accept_terms:
        return
    if Manifest(request.folder, dataset=request.dataset).terms_accepted is None:
        raise UserError(
            f"the terms of '{request.dataset}' have to be accepted first",
            {
                "terms": request.sources.terms,
                "read them at": request.sources.homepage or "-",
                "please cite": " ".join(request.sources.citation.split()),
                "to fix": f"{command_of(request)} --accept-terms",
            },
            EXIT_USAGE,
        )


class _Run:
    """One run of `fetch`: what it has found out and done so far."""

    def __init__(self, request: FetchRequest, work: Work, web: Web) -> None:
        self.request = request
        self.work = work
        self.web = web
        self.folder = request.folder
        self.manifest = Manifest(
            self.folder, dataset=request.dataset, tool_version=request.tool_version
        )
        self.sources = request.sources.selected(request.subset)
        self.rows: list[PlanRow] = []
        self.failures: dict[str, UserError] = {}
        self.missing = self._read_missing()
        self.bytes_fetched = 0

    def carry_out(self) -> dict[str, Any]:
        """Fetch or take over, unpack, report. Raises UserError for whatever could not be done."""
        remove_litter(self.manifest.path)
        remove_litter(self.folder / MISSING)
        self.manifest.forget_lost()
        if self.request.sources.needs_acceptance and self.request.accept_terms:
            self.manifest.terms_accepted = self.manifest.terms_accepted or now()
            self.manifest.save()
        if self.request.from_dir is not None:
            adopted = adopt(
                self.request.from_dir, self.sources, self.manifest, only=self.request.only
            )
            self._say_adopted(adopted)
        else:
            with_lists = [each for each in self.sources if isinstance(each, YoutubeSource)]
            self._fetch([each for each in self.sources if each not in with_lists])
            # Their lists are among the files that are here now.
            self._fetch([each for each in with_lists if (self.folder / each.table).is_file()])
        unpacked = self._unpack() if self.request.unpack else []
        self._write_missing()
        self.manifest.save()
        result = self._result() | {"unpacked": unpacked}
        self._raise_failures(result)
        return result

    def describe(self) -> dict[str, Any]:
        """What `carry_out` would fetch; writes nothing."""
        tables = [each for each in self.sources if isinstance(each, YoutubeSource)]
        if self.request.from_dir is None:  # else no server is needed
            self._plan([each for each in self.sources if each not in tables])
            self._plan([each for each in tables if (self.folder / each.table).is_file()])
        result = self._result()
        later = [each.table for each in tables if not (self.folder / each.table).is_file()]
        return result | {
            "unreachable": {name: problem.message for name, problem in self.failures.items()},
            "bytes_needed": self._bytes_needed(self.rows),
            "bytes_free": free_bytes(self.folder),
            "listed_later": later,
        }

    def _plan(self, sources: Sequence[Source]) -> list[PlanRow]:
        """Ask each source what it has; one that does not answer is a failure of its own."""
        added: list[PlanRow] = []
        for source in sources:
            try:
                added += plan_source(
                    source, self.request, self.web, manifest=self.manifest, gone=self.missing
                )
            except UserError as problem:
                self.failures[label_of(source)] = problem
        self.rows += added
        return added

    def _fetch(self, sources: Sequence[Source]) -> None:
        rows = self._plan(sources)
        self._check_room(rows)
        for row in rows:
            if row.state == "found":
                try:
                    take_over(row, self.manifest)
                except UserError as problem:
                    self.failures[row.wanted.name] = problem
        self._fetch_rows([row for row in rows if row.state in ("missing", "part")])

    def _fetch_rows(self, rows: Sequence[PlanRow]) -> None:
        if not rows:
            return
        stop = threading.Event()
        tasks = []
        for row in rows:
            meter = Meter(stop, row.wanted.size)
            meter.done = row.have
            tasks.append(Task(row.wanted, row.fetcher, self.folder / row.wanted.name, meter))
        finished = 0

        def progress() -> None:
            totals = [task.meter.total for task in tasks]
            known = sum(total for total in totals if total is not None)
            total = None if None in totals else known
            done = sum(task.meter.done for task in tasks)
            self.work.progress("download", done, total, "B")
            self.work.progress("files", finished, len(tasks), "files")

        def note(task: Task, outcome: Fetched | UserError) -> None:
            nonlocal finished
            finished += 1
            self._note(task, outcome, f"{finished} of {len(tasks)}")

        fetch_all(tasks, jobs=self.request.jobs, stop=stop, progress=progress, finished=note)
        self.bytes_fetched += sum(task.meter.received for task in tasks)

    def _note(self, task: Task, outcome: Fetched | UserError, place: str) -> None:
        name = task.wanted.name
        if isinstance(outcome, Fetched):
            task.meter.done = task.meter.total = outcome.size
            self.manifest.record(task.wanted, outcome)
            self.missing.pop(name, None)
            self.work.log(f"{place}: {name} ({_size(outcome.size)})")
            return
        task.meter.total = task.meter.done
        if isinstance(outcome, Unavailable):
            self.missing[name] = outcome.reason
            self.work.log(f"{place}: {outcome.message}")
            return
        if outcome not in self.failures.values():  # one closed source fails all its files
            self.work.warning(f"{place}: {name}: {outcome.message}")
        self.failures[name] = outcome

    def _check_room(self, rows: Sequence[PlanRow]) -> None:
        needed, free = self._bytes_needed(rows), free_bytes(self.folder)
        if needed > free:
            raise UserError(
                f"not enough space on the disk for '{self.request.dataset}'",
                {
                    "needed": _size(needed),
                    "free": _size(free),
                    "folder": self.folder,
                    "to fix": "free some space, or fetch less (--only)",
                },
            )
        if any(row.wanted.size is None and row.state != "here" for row in rows):
            self.work.log(f"the size of some files is not known beforehand; {_size(free)} are free")

    def _bytes_needed(self, rows: Sequence[PlanRow]) -> int:
        rules = self.request.sources.unpack if self.request.unpack else ()
        return bytes_needed(
            rows, {row.wanted.name: growth_of(row.wanted.name, rules) for row in rows}
        )

    def _unpack(self) -> list[dict[str, Any]]:
        def report(name: str) -> Report:
            return lambda done, total: self.work.progress(f"unpack {name}", done, total, "B")

        try:
            return unpack_all(
                self.manifest,
                self.request.sources.unpack,
                keep_archives=self.request.keep_archives,
                report=report,
            )
        except UserError as problem:
            self.failures["unpacking"] = problem
            return []

    def _say_adopted(self, adopted: Adopted) -> None:
        for name in adopted.names:
            self.work.log(f"taken over: {name}")
        for label in adopted.contents:
            row = self.manifest.contents[label]
            self.work.log(f"taken over: {row.num_files} files for {label}")
        for problem in adopted.refused:
            self.work.warning(problem.message)

    def _result(self) -> dict[str, Any]:
        files = self._file_rows()
        here = [row for row in files if row["state"] == "here"]
        is_weights = self.request.dataset.startswith("weights/")
        return {
            "dataset": self.request.dataset,
            "folder": str(self.folder),
            "subset": self.request.subset or self.request.sources.default_subset,
            "files": files,
            "num_files": len(files),
            "num_files_here": len(here),
            "bytes_fetched": self.bytes_fetched,
            "missing": dict(sorted(self.missing.items())),
            "coverage": self._coverage(),
            "next": None if is_weights else f"i2v extract-frames {self.request.dataset}",
        }

    def _file_rows(self) -> list[dict[str, Any]]:
        """Every file that belongs to the request, with what is known about it by now."""
        planned = {row.wanted.name: row for row in self.rows}
        if self.request.from_dir is not None:
            known = [
                wanted for source in self.sources for wanted in known_files(source, self.folder)
            ]
            names = {each.name for each in known if is_selected(each.name, self.request.only)}
            names |= set(self.manifest.files)
        else:
            names = set(planned)
        rows = []
        for name in sorted(names):
            row, plan = self.manifest.files.get(name), planned.get(name)
            is_here = self.manifest.is_whole(name)
            state = "here" if is_here else plan.state if plan else "missing"
            size = row.size if row else plan.wanted.size if plan else None
            url = row.url if row else plan.wanted.url if plan else None
            rows.append({"name": name, "state": state, "bytes": size, "url": url})
        rows += [
            {"name": name, "state": "here", "bytes": content.num_bytes, "url": None}
            for content in self.manifest.contents.values()
            for name in content.names
        ]
        return rows

    def _coverage(self) -> dict[str, dict[str, int]] | None:
        """How much of the listed videos is here, per split; None for sets without such a list."""
        for source in self.sources:
            if isinstance(source, YoutubeSource) and (self.folder / source.table).is_file():
                videos = read_table(
                    self.folder / source.table,
                    id_column=source.id_column,
                    split_column=source.split_column,
                )
                stems = {Path(name).stem for name in self.manifest.files if name.endswith(".mp4")}
                return coverage(videos, stems)
        return None

    def _read_missing(self) -> dict[str, str]:
        path = self.folder / MISSING
        return dict(read_json(path)["videos"]) if path.exists() else {}

    def _write_missing(self) -> None:
        report = self._coverage()
        if report is None:
            return
        reasons = dict(Counter(self.missing.values()).most_common())
        write_json(
            self.folder / MISSING,
            {"videos": dict(sorted(self.missing.items())), "reasons": reasons, "coverage": report},
        )
        for split, row in report.items():
            self.work.log(
                f"{split}: {row['videos_here']} of {row['videos']} videos, "
                f"{row['clips_here']} of {row['clips']} clips"
            )
        if reasons:
            words = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            self.work.warning(f"{len(self.missing)} videos cannot be had: {words}")

    def _raise_failures(self, result: dict[str, Any]) -> None:
        total = result["num_files"]
        complete = f"{result['num_files_here']} of {total} files" if total else ""
        report = result["coverage"]
        if self.missing and report and not any(row["videos_here"] for row in report.values()):
            raise UserError("none of the listed videos can be had", {"see": self.folder / MISSING})
        if self.failures:
            raise _one_error(self.request, self.failures, complete)


def _one_error(
    request: FetchRequest, failures: Mapping[str, UserError], complete: str
) -> UserError:
    """What went wrong, as one error: the error itself when all have the same, else a list."""
    here = {"complete": complete} if complete else {}
    by_message: dict[str, list[str]] = {}
    for name, problem in failures.items():
        by_message.setdefault(problem.message, []).append(name)
    problems = list(failures.values())
    if len(by_message) == 1:
        details = dict(problems[0].details)
        remedy = {key: details.pop(key) for key in _REMEDIES if key in details}
        more = {"also": f"{len(problems) - 1} more files"} if len(problems) > 1 else {}
        return UserError(
            problems[0].message,
            {**details, **more, **here, **remedy},
            problems[0].exit_code,
        )
    shown: dict[str, object] = {}
    for message, names in list(by_message.items())[:_SHOWN_FAILURES]:
        shown[names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")] = message
    closed = next((each for each in problems if isinstance(each, SourceClosed)), None)
    told = closed.details if closed else {}
    how: dict[str, object] = {key: told[key] for key in ("how", "variable") if key in told}
    again = {"to fix": f"{command_of(request)}  (what is complete is not fetched again)"}
    return UserError(
        f"{len(failures)} downloads of '{request.dataset}' failed",
        {**shown, **here, **how, **again},
        problems[0].exit_code,
    )


def _verify(request: FetchRequest, work: Work) -> dict[str, Any]:
    """Read every file of the manifest again and compare."""
    manifest = Manifest(request.folder, dataset=request.dataset)
    names = [name for name in sorted(manifest.files) if is_selected(name, request.only)]
    if not names:
        raise UserError(
            f"nothing of '{request.dataset}' has been downloaded",
            {"looked in": request.folder, "run first": f"i2v download {request.dataset}"},
            EXIT_NO_DATA,
        )
    total = sum(manifest.files[name].size for name in names)
    bad: dict[str, str] = {}
    done = 0
    for name in names:
        if problem := manifest.verify(name):
            bad[name] = problem
        done += manifest.files[name].size
        work.progress("verify", done, total, "B")
    if bad:
        raise UserError(
            f"{len(bad)} of {len(names)} files of '{request.dataset}' are not what was downloaded",
            dict(list(bad.items())[:_SHOWN_FAILURES])
            | {"folder": request.folder, "to fix": f"i2v download {request.dataset}"},
        )
    checked = sum(manifest.files[name].checked is not None for name in names)
    return {
        "dataset": request.dataset,
        "folder": str(request.folder),
        "num_files": len(names),
        "num_published_checksums": checked,
        "num_learned_checksums": len(names) - checked,
    }


def _size(num_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
