"""A bucket as the listener's spool: one create-only PUT for each mail.

That PUT is the commit point: only its success is answered 250. The key is fixed before the upload
begins, so a retry can only find the listener's own object there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.delivery.events import DeliveryEvents
from functions.errors import Damaged
from functions.message.envelope import Envelope, encode_field
from functions.message.mail import BytesContent, CheckedContent, Content
from functions.spool.object import CONTENT_TYPE, spool_key
from listener.api.decision import Reply
from listener.intake.budget import Budget
from listener.intake.capture_folder import CaptureFolder
from listener.intake.captures import Captures
from listener.intake.spool import Answered

if TYPE_CHECKING:
    from listener.intake.s3_uploads import S3Uploads

log: Final = logging.getLogger("smtp_relay.spool")

BUSY: Final = Reply(451, "4.3.1", "Too much mail is waiting to be stored, try again later")
UNSTORED: Final = Reply(451, "4.3.0", "The mail could not be stored, try again later")

PROBE: Final = "spool/probe"
"""Key of the object that tests if the bucket can be written: created once, refused ever after."""

_FRESH: Final = 15.0  # seconds for which the last upload's success answers a probe
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_ON_DISK: Final = 262_144  # bytes above which a file is read outside the event loop

_OVERWRITING: Final = "storage.objects.delete"  # the permission that overwriting in Cloud Storage needs

_SMALL: Final = 131_072  # most bytes of an object that the event loop itself uploads
_EXISTS: Final = 412
_REFUSALS: Final = (401, 403, 404)

Body = bytes | mmap.mmap

_ATTRIBUTES: Final = {"Content-Type": CONTENT_TYPE}


class BucketSpool:
    """`listener.intake.spool.Spool` for an obstore `store`; keys begin with `prefix`.

    `budget` is the number of bytes that may be uploaded at a time, `patience` the seconds after
    which the reply asks the client to retry; waiting for a turn counts. `notify` is called with
    each mail's key if this process also delivers.
    """

    def __init__(
        self,
        store: Any,
        prefix: str,
        folder: CaptureFolder,
        observer: DeliveryEvents,
        *,
        budget: int,
        patience: float,
        min_free: int,
        notify: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._folder = folder
        self._observer = observer
        self._budget = Budget(budget)
        self._patience = patience
        self.min_free = min_free
        self.hashes = True
        self._notify = notify
        self._full = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stored_at = -_FRESH
        self._stopping = False
        self.uploads: S3Uploads | None = None
        """The short way for small mails, if there is one."""
        self.capture_folder: Path = folder.path
        self.captures = Captures(folder.path)

    def store(self, envelope: Envelope, content: Content, answered: Answered) -> None:
        started = time.monotonic()
        if not isinstance(content, BytesContent) or not self._put_small(envelope, content, answered, started):
            self._begin(envelope, content, answered, started)

    def tick(self) -> None:
        missing = self._folder.missing(self.min_free)
        self._full = missing > 0 and not self.captures.make_room(missing)
        if self.uploads is not None:
            self.uploads.tick()

    def full(self) -> bool:
        return self._full

    async def probe(self) -> None:
        if self._full:
            raise OSError("the disk for incoming large mails is full")
        if time.monotonic() - self._stored_at < _FRESH:
            return
        await self._put(self._prefix + PROBE, b"")
        self._stored_at = time.monotonic()

    async def stop(self, timeout: float) -> None:
        ends = time.monotonic() + timeout
        if self.uploads is not None:
            await self.uploads.drain(timeout)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=max(0.0, ends - time.monotonic()))
        self._stopping = True
        if self.uploads is not None:
            self.uploads.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.close()

    def _put_small(
        self, envelope: Envelope, content: BytesContent, answered: Answered, started: float
    ) -> bool:
        """Upload without a task of its own. Returns False if that cannot be tried now."""
        uploads = self.uploads
        if uploads is None:
            return False
        try:
            body = encode_field(envelope) + content.data
        except ValueError:
            return False  # a task reports it
        size = len(body)
        if size > _SMALL or not self._budget.take_at_once(size):
            return False

        def done(status: int, reason: str) -> None:
            self._budget.give(size)
            extra = {"id": envelope.id, "reason": reason}
            if 200 <= status < 300 or status == _EXISTS:
                self._tell(_queued(envelope), envelope, answered, started)
            elif self._stopping:
                log.warning("stopped before the mail was stored", extra=extra)
                self._tell(UNSTORED, envelope, answered, started)
            elif status in _REFUSALS:
                log.error("the bucket refuses mail", extra=extra)
                self._tell(UNSTORED, envelope, answered, started)
            else:
                log.warning("stored at a second try, perhaps", extra=extra)
                self._begin(envelope, content, answered, started, _FIRST_PAUSE if status else 0.0)

        if uploads.put(self._key(envelope), body, done):
            return True
        self._budget.give(size)
        return False

    def _begin(
        self, envelope: Envelope, content: Content, answered: Answered, started: float, pause: float = 0.0
    ) -> None:
        # A task of its own, because the mail is stored even if the client goes away.
        task = asyncio.get_running_loop().create_task(self._take(envelope, content, answered, started, pause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(
        self, envelope: Envelope, content: Content, answered: Answered, started: float, pause: float
    ) -> None:
        reply = UNSTORED
        try:
            reply = await self._upload(envelope, content, started + self._patience - time.monotonic(), pause)
        except asyncio.CancelledError:
            log.warning("stopped before the mail was stored", extra={"id": envelope.id})
        except Exception as error:
            log.exception("the mail could not be stored", extra={"id": envelope.id, "reason": _reason(error)})
        finally:
            _discard(content)
        self._tell(reply, envelope, answered, started)

    def _tell(self, reply: Reply, envelope: Envelope, answered: Answered, started: float) -> None:
        if reply.code < 300:
            self._stored_at = time.monotonic()
            self._observer.spool_stored(self._stored_at - started)
            if self._notify is not None:
                self._notify([self._key(envelope)])
        else:
            self._observer.spool_error()
        answered(reply)

    def _key(self, envelope: Envelope) -> str:
        return self._prefix + spool_key(envelope.id, envelope.received_at)

    async def _upload(self, envelope: Envelope, content: Content, patience: float, pause: float) -> Reply:
        key = self._key(envelope)
        field = encode_field(envelope)
        reply = BUSY
        try:
            async with (
                asyncio.timeout(patience),
                self._budget.use(len(field) + content.size),
            ):
                reply = UNSTORED
                body = await _whole(field, content, envelope)
                await asyncio.sleep(pause)
                await self._put_until_done(envelope.id, key, body)
        except TimeoutError:
            log.warning("not stored in time", extra={"id": envelope.id, "reply": str(reply)})
            return reply
        except _Refused as error:
            log.error("the bucket refuses mail", extra={"id": envelope.id, "reason": str(error)})
            return UNSTORED
        except Damaged as fault:
            # The disk that holds large mails damaged it; the client still has it.
            log.error("the captured mail is spoiled", extra={"id": envelope.id, "reason": fault.reason})
            return UNSTORED
        return _queued(envelope)

    async def _put_until_done(self, mail_id: str, key: str, body: Body) -> None:
        """Retry while the caller waits."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._put(key, body)
            except _Unsure as error:
                log.warning("stored at a second try, perhaps", extra={"id": mail_id, "reason": str(error)})
            else:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _put(self, key: str, body: Body) -> None:
        """One create-only PUT. Raises _Unsure if a retry may work, _Refused if not."""
        import obstore
        from obstore import exceptions as obs

        try:
            await obstore.put_async(
                self._store, key, body, mode="create", attributes=_ATTRIBUTES, use_multipart=False
            )
        except obs.AlreadyExistsError as error:
            # 412: the object exists, and only this listener makes this key. 409 has the same name:
            # another request for the key is still under way, and may fail.
            text = str(error)
            if "status code" in text and "status code: 412" not in text:
                raise _Unsure(_reason(error)) from error
        except obs.PermissionDeniedError as error:
            # With create-only rights, Cloud Storage answers 403 instead of 412 when the object
            # exists.
            if _OVERWRITING not in str(error):
                raise _Refused(_reason(error)) from error
        except (
            FileNotFoundError,
            obs.NotFoundError,
            obs.UnauthenticatedError,
            obs.InvalidPathError,
            NotImplementedError,
            obs.NotSupportedError,
            obs.UnknownConfigurationKeyError,
        ) as error:
            raise _Refused(_reason(error)) from error
        except (obs.BaseError, OSError) as error:
            raise _Unsure(_reason(error)) from error


class _Unsure(Exception):
    """The object may exist or not."""


class _Refused(OSError):
    """The bucket refuses the object."""


def _queued(envelope: Envelope) -> Reply:
    return Reply(250, "2.0.0", f"OK queued as {envelope.id}")


async def _whole(field: bytes, content: Content, envelope: Envelope) -> Body:
    """The spool object, in memory once. Raises Damaged for a file that differs from the captured mail."""
    if isinstance(content, BytesContent):
        return field + content.data
    checked = CheckedContent(envelope, content)
    if content.size <= _ON_DISK:
        return _read(field, checked)
    return await asyncio.to_thread(_read, field, checked)


def _read(field: bytes, content: Content) -> mmap.mmap:
    """In memory of its own, which goes back to the system at once, because malloc keeps freed large
    blocks, once for each thread."""
    whole = mmap.mmap(-1, len(field) + content.size)
    with memoryview(whole) as view, content.open() as stream:
        view[: len(field)] = field
        at = len(field)
        while at < len(view) and (count := stream.readinto(view[at:])):  # type: ignore[attr-defined]
            at += count
    if at != len(whole):
        raise OSError(f"the captured mail has {at - len(field)} bytes instead of {content.size}")
    return whole


def _discard(content: Content) -> None:
    if content.path is not None:
        with contextlib.suppress(OSError):
            content.path.unlink()


def _reason(error: Exception) -> str:
    """The first line, because obstore adds pages of debug output."""
    return str(error).partition("\n")[0][:500] or type(error).__name__
