"""Output `file`: each mail becomes a file of a folder (docs/outputs/file.md)."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from functions.errors import Temporary
from functions.message.mail import Mail
from functions.message.template import Template, TemplateValues
from functions.options.types import PlainText
from functions.processors.base import Job, OutputOptions, Placed, Processor
from functions.processors.context import BuildContext
from functions.processors.file.placed import PlacedFile
from functions.processors.file.placing import TargetFolder
from functions.processors.file.retention import RetentionOptions
from functions.processors.file.user_folder import folder_of_user
from functions.processors.file.written import WrittenFile

_KEYS: Final = 1_024


def _check_filename(text: str) -> str:
    template = Template.parse(text)
    if "attachment" in template.variables:
        raise ValueError("${attachment} has no value here: the whole mail is stored")
    if text.startswith("/") or text.endswith("/") or ".." in text.split("/"):
        raise ValueError("names a file inside the folder: no leading or trailing '/', no '..'")
    if "." in text.split("/")[-1:]:
        raise ValueError("names no file")
    return "/".join(name for name in text.split("/") if name != ".")


class FileOutputOptions(OutputOptions):
    """Store the mail as a file, and never overwrite one."""

    type: Literal["file"] = "file"

    path: PlainText
    """The folder."""

    filename: Annotated[str, Field(min_length=1), AfterValidator(_check_filename)] = "${iso8601}.eml"
    """A template of the file's name."""

    add_raw_headers: bool = Field(default=False, alias="addRawHeaders")
    """Begin the file with the mail's envelope."""

    retention: RetentionOptions | None = None
    """The mails that stay in the folder; all of them, unless this is given."""

    local = True
    runs_in = frozenset()
    loopingz_differences = ("file names are unique: a taken name gets a suffix instead of being overwritten",)

    @property
    def file_folder(self) -> str:
        return self.path

    @property
    def effect(self) -> str:
        return f"stores it in {self.path}"

    @property
    def file_retention(self) -> RetentionOptions | None:
        return self.retention

    def identity(self) -> str:
        return self.name or f"file:{self.path}:{self.filename}"


class FileProcessor(Processor):
    """Stores mails in one folder; with `by_user` those of SMTP users in folders of their own in it."""

    quick: ClassVar[bool] = True

    def __init__(self, options: FileOutputOptions, folder: TargetFolder, *, by_user: bool = False) -> None:
        self._identity = options.identity()
        self._template = Template.parse(options.filename)
        self._folder = folder
        self._by_user = by_user
        self.limit = folder.limit
        self.needs_spool = folder.limit is not None
        self._keys: dict[tuple[str, int], str] = {}

    @property
    def folder(self) -> Path:
        """The folder of the placed mails, for `remove_traces`."""
        return self._folder.folder

    def process(self, job: Job) -> Placed:
        mail = job.mail
        key = self._key(job.flow, mail.envelope.replay)
        return self._folder.place(mail, job.flow, self._name(mail, job.flow), key, shared=job.shared)

    def place(self, mail: Mail, flow: str, *, shared: bool) -> str:
        name = self._name(mail, flow)
        path = self._folder.place_whole(mail, flow, name, shared=shared)
        if path is None:
            placed = self._folder.place(mail, flow, name, self._key(flow, 0), shared=True)
            placed.cleanup()
            path = placed.path
        return path

    def begin(self, mail: Mail, flow: str) -> WrittenFile | None:
        return self._folder.begin(mail, flow, self._name(mail, flow), self._key(flow, mail.envelope.replay))

    def _name(self, mail: Mail, flow: str) -> str:
        name = self._template.render(TemplateValues(mail, flow))
        if self._by_user and mail.envelope.user:
            name = f"{folder_of_user(mail.envelope.user)}/{name}"
        return name

    def file_of(self, placed: Placed) -> str | None:
        return placed.path if isinstance(placed, PlacedFile) else None

    def taken(self, job: Job) -> Placed | None:
        return self._folder.taken(job.mail, job.flow, self._key(job.flow, job.mail.envelope.replay))

    def _key(self, flow: str, replay: int) -> str:
        """Tells this flow's work for this output from others' in the names of temporaries."""
        key = self._keys.get((flow, replay))
        if key is None:
            if len(self._keys) >= _KEYS:
                self._keys.clear()
            text = f"{self._identity}\0{flow}\0{replay}"
            key = self._keys[flow, replay] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return key


def build(options: FileOutputOptions, name: str, context: BuildContext) -> FileProcessor:
    """The processor of one `file` output. If the folder cannot be made now, each mail tries again and
    is deferred until then."""
    path = context.folder / options.path
    folder = TargetFolder(
        path,
        context.staging,
        durable=context.durable,
        raw_headers=options.add_raw_headers,
        limit=options.retention.limit(path) if options.retention is not None else None,
    )
    with suppress(Temporary):
        folder.prepare()
    return FileProcessor(options, folder, by_user=context.by_user and options.add_raw_headers)
