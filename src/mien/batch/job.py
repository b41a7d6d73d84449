"""A job from its settings to its table: plan, score what is missing, assemble; at any kill, go on from there."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mien import __version__
from mien.batch import parts, plan, sources, stores
from mien.batch.plan import Plan
from mien.batch.stores import Folder
from mien.batch.work import JOB_FILE, PLAN_FILE, TRY_PREFIX, Counts, Done, Engine, Work
from mien.errors import ConfigError, DataError
from mien.faces import detect
from mien.runtime import providers
from mien.runtime.predictor import Predictor

PARTS_SUFFIX = ".parts"  # of the folder beside OUT.parquet
OTHER_FORMS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".pq")  # of tables: OUT is none of these
FORMAT = 1  # of parts and plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a job is; equal settings and an equal source list give equal rows."""

    source: str
    output: str  # a file where it ends in .parquet, else a folder of parts
    model: str = "default"
    detector: str = "centerface"
    column: str | None = None  # of Parquet sources
    sort: bool = False  # by source
    shard_images: int = 1000  # at least, except in the last: what a kill can cost
    resume: bool = False

    def __post_init__(self) -> None:
        if self.shard_images < 1:
            raise ConfigError(f"a shard has {self.shard_images} images: give 1 or more")
        if self.output.lower().endswith(OTHER_FORMS):
            raise ConfigError(
                f"{self.output}: mien batch writes Parquet, to a file where OUT ends in .parquet and else to a folder "
                "of such files: name one of these; `mien predict SOURCE --format csv` writes CSV, and json JSON"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a finished job has, and what this run of it did."""

    output: str
    total: Counts  # of the whole table
    scored: Counts  # in this run
    shards: int
    resumed_shards: int  # that had landed before
    seconds: float  # of this run, with listing and assembling
    named: tuple[str, ...]  # the first errors of this run
    skipped: int  # files of a folder or glob that are no pictures, archives or tables by their names


class Watch(Protocol):
    """Sees the job go on."""

    def listed(self, units: int) -> None:
        """So many files and row groups are found so far."""

    def begun(self, work: Plan, finished: int) -> None:
        """Scoring begins; so many shards have landed before."""

    def done(self, news: Done) -> None:
        """Pictures are done."""

    def assembling(self) -> None:
        """All shards have landed; they become one file."""


@dataclass(slots=True)
class _Tally:
    """What this run scored."""

    counts: Counts = field(default_factory=Counts)
    named: list[str] = field(default_factory=list)


NAMED = 20  # errors of a run that its summary has in words


def run(settings: Settings, engine: Engine, *, watch: Watch) -> Summary:
    """Score all of a source into one table, from where an earlier run of the same job stopped.

    Raises:
        ConfigError: OUT holds another job, or one that `resume` does not allow to go on.
        DataError: there is nothing to score, or a file of the job is damaged.
        ModelError: the model cannot be loaded.
    """
    start_s = time.monotonic()
    job = _Job(settings)
    job.check_free()
    with tempfile.TemporaryDirectory() as scratch:
        planned = job.plan(Path(scratch) / PLAN_FILE, watch.listed)
        before = job.enter(Path(scratch) / PLAN_FILE)
    if before is None:  # the table is there already
        job.folder.remove(_is_own)
        total = Counts(**parts.about_table(settings.output)["counts"])
        return _summary(job, total, _Tally(), planned.shards, planned.shards, start_s)
    watch.begun(planned, len(before))
    tally = _score(job, engine, sorted(set(range(planned.shards)) - before), watch)
    if job.is_file:
        watch.assembling()
        total = parts.assemble(job.folder, planned.shards, settings.output, job=job.digest, about=job.identity)
        job.folder.remove(_is_own)
    else:
        total = parts.counts_of(job.folder, range(planned.shards), job=job.digest)
    return _summary(job, total, tally, planned.shards, len(before), start_s)


def _score(job: "_Job", engine: Engine, shards: list[int], watch: Watch) -> _Tally:
    tally = _Tally()
    if not shards:
        return tally
    with closing(engine(job.work(), job.model, shards)) as stream:
        for news in stream:
            tally.counts += news.counts
            tally.named += news.named[: NAMED - len(tally.named)]
            watch.done(news)
    if missing := set(shards) - parts.finished(job.folder):
        raise DataError(
            f"{len(missing):,} shards did not land in {job.folder.address}: "
            "it must be a place that every worker shares; go on with --resume"
        )
    return tally


def _summary(job: "_Job", total: Counts, tally: _Tally, shards: int, before: int, start_s: float) -> Summary:
    return Summary(
        output=job.settings.output,
        total=total,
        scored=tally.counts,
        shards=shards,
        resumed_shards=before,
        seconds=time.monotonic() - start_s,
        named=tuple(tally.named),
        skipped=job.skipped,
    )


class _Job:
    """The state of a job on disk: a folder with its identity, its plan and the parts that have landed."""

    def __init__(self, settings: Settings) -> None:
        """Load what the job needs, and refuse what cannot work before a file is listed."""
        self.settings = settings
        self.is_file = settings.output.lower().endswith(".parquet")
        self.folder = Folder(settings.output + (PARTS_SUFFIX if self.is_file else ""))
        path = providers.file_of(settings.model)
        predictor = Predictor(path, threads=1)
        self.model = path.read_bytes()
        self._info = predictor.info.to_dict()
        self._info.pop("provider", None)  # a worker may have another: each row says which
        detect.create(settings.detector)  # fetches what has to be fetched, once, and says what cannot be
        self.identity: dict[str, Any] = {}
        self.digest = ""
        self.skipped = 0
        self._planned: Plan | None = None
        self._witness: str | None = None

    def check_free(self) -> None:
        """Refuse to write over anything; `resume` may go on with what is there."""
        output, names = self.settings.output, self.folder.names()
        if self.is_file and stores.scheme_of(output) is None and Path(output).is_dir():
            raise ConfigError(f"{output} is a folder: name a file, or a folder that does not end in .parquet")
        if _lies_below(self.folder.address, stores.local_form(self.settings.source)):
            raise ConfigError(f"{output} is in {self.settings.source}, where it would be read: name an OUT outside")
        landed, is_done = parts.finished(self.folder), self.is_file and _exists(output)
        if self.settings.resume and (is_done or landed or JOB_FILE in names):
            return
        if is_done:
            raise ConfigError(f"{output} exists: remove it, or name another OUT; --resume keeps a finished one")
        if landed:
            raise ConfigError(
                f"{self.folder.address} holds {len(landed):,} finished shards: go on with --resume, or remove it"
            )
        if strange := sorted(name for name in names if name[0] not in "._"):
            raise ConfigError(f"{self.folder.address} holds other files ({strange[0]}): name another OUT")

    def plan(self, path: Path, listed: Callable[[int], None]) -> Plan:
        """List the source, cut it into shards, and know the job by all that decides its rows."""
        source, column = self.settings.source, self.settings.column
        units: Iterable[sources.Unit] = sources.listing(source, column=column, skip=self._skip)
        if self.settings.sort:
            units = sorted(units, key=lambda unit: (unit.address, unit.first))
        shards = plan.cut(units, shard_images=self.settings.shard_images)
        self._planned = plan.write(path, shards, watch=listed)
        self._witness = _seen_here(plan.read(str(path), 0, shards=self._planned.shards)[0])
        self.identity = {
            "format": FORMAT,
            "version": __version__,
            "model": self._info,
            "detector": self.settings.detector,
            "parameters": self._parameters(),
            "column": self.settings.column,
            "plan": self._planned.to_dict(),
        }
        self.digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return self._planned

    def _skip(self, _path: str) -> None:
        self.skipped += 1

    def enter(self, planned: Path) -> set[int] | None:
        """Begin the job in its folder, or find it there: the shards that have landed; None where the table has.

        Raises:
            ConfigError: what is there is another job.
        """
        if self.is_file and self.settings.resume and _exists(self.settings.output):
            self._same(parts.about_table(self.settings.output), self.settings.output)
            return None
        names = self.folder.names()
        if JOB_FILE in names and parts.finished(self.folder):
            place = self.folder.place(JOB_FILE)
            self._same(_read_json(place), place)
        elif parts.finished(self.folder):
            raise ConfigError(f"{self.folder.address} holds parts of an unknown job: remove it, or name another OUT")
        else:
            self._begin(planned)
        self.folder.sweep(TRY_PREFIX)
        if self.is_file:
            parent, name = parts.folder_and_name(self.settings.output)
            parent.sweep_of(name)
        return parts.finished(self.folder)

    def work(self) -> Work:
        """What the workers have to know."""
        assert self._planned is not None, "plan() comes first"
        info = self._info
        return Work(
            job=self.digest,
            folder=self.folder.address,
            shards=self._planned.shards,
            root=str(Path.cwd()),
            column=self.settings.column,
            detector=self.settings.detector,
            version=__version__,
            provenance={
                "model": str(info["name"]),
                "model_sha256": str(info["sha256"]),
                "mien_version": __version__,
                "detector": self.settings.detector,
            },
            parameters=self._parameters(),
            witness=self._witness,
        )

    def _parameters(self) -> dict[str, Any]:
        """How the numbers came about, beyond the names of model and detector."""
        return {
            "temperature": self._info["temperature"],
            "threshold": self._info["threshold"],
            "precision": self._info["precision"],
            "detector_score_threshold": detect.SCORE_THRESHOLDS[self.settings.detector],
            "detector_max_side_px": detect.MAX_SIDE_PX,
        }

    def _begin(self, planned: Path) -> None:
        self.folder.make()
        with self.folder.writing(PLAN_FILE) as path:
            Path(path).write_bytes(planned.read_bytes())
        with self.folder.writing(JOB_FILE) as path:
            Path(path).write_text(json.dumps(self.identity, indent=1) + "\n", encoding="utf-8")

    def _same(self, found: dict[str, Any], place: str) -> None:
        """Whether what is there is this very job; names what differs."""
        for key, wanted in json.loads(json.dumps(self.identity)).items():
            if (was := found.get(key)) != wanted:
                raise ConfigError(f"{place} is of another job: {_difference(key, was, wanted)}; name another OUT")


def _difference(key: str, was: Any, wanted: Any) -> str:
    if key == "plan":
        return "the list of sources, --shard-images or --sort is not the same"
    if isinstance(was, dict) and isinstance(wanted, dict):
        key, was, wanted = next((k, was.get(k), wanted[k]) for k in wanted if was.get(k) != wanted[k])
    return f"{key} was {was!r} and is {wanted!r}"


def _is_own(name: str) -> bool:
    """Whether a file in a folder of parts is the job's."""
    return name in (JOB_FILE, PLAN_FILE) or name.startswith(TRY_PREFIX) or bool(parts.NAME.fullmatch(name))


def _seen_here(unit: sources.Unit) -> str | None:
    """The absolute path of a local file that this process sees."""
    if stores.scheme_of(unit.address) is None and os.path.exists(unit.address):  # noqa: PTH110 - as typed
        return str(Path(unit.address).absolute())
    return None


def _lies_below(place: str, source: str) -> bool:
    """Whether a folder is in a folder of sources, or is that; both on this machine."""
    if stores.scheme_of(place) or stores.scheme_of(source) or not Path(source).is_dir():
        return False
    return Path(place).resolve().is_relative_to(Path(source).resolve())


def _exists(address: str) -> bool:
    folder, name = parts.folder_and_name(address)
    return name in folder.names()


def _read_json(place: str) -> dict[str, Any]:
    try:
        with stores.open_file(place) as file:
            return dict(json.loads(file.read()))
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error}): try again when it can") from error
    except ValueError as error:
        raise DataError(f"{place} is damaged ({error}): remove the folder and start the job anew") from error
