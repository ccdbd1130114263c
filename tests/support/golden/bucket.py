"""The golden recordings of a bucket's spool: the part that both clouds share.

A recording has the objects of the spool and of the output's bucket, and the cloud's receipts. The
function's code makes it in this process, and reads it.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from functions.bucket.deadletters import BucketDeadLetters
from functions.config import DeliveryConfig
from functions.spool.deadletters import Selection
from functions.spool.object import split_object
from tests.support.golden.recording import MAILS, content_of, copies, name_of, new_envelope, write_json
from tests.support.mails.spooled import spool_object
from tests.support.net import HOST, wait_until
from tests.support.servers.smarthost import Smarthost

SPOOL: Final = "golden-spool"
TARGET: Final = "golden-target"
PREFIX: Final = "relay/"
EVENTS: Final = "golden-events"
"""The queue, or topic, that an output sends events to."""

NEXT: Final = [
    {"type": "log", "fields": ["subject"]},
    {"type": "mailer", "name": "first", "nodemailer": {"host": "first.example.net", "port": 2525}},
    {"type": "mailer", "name": "second", "nodemailer": {"host": "second.example.net", "port": 2525}},
]
"""The outputs of every flow besides the cloud's own."""

LOG_OUTPUT: Final = "smtp_relay.output.log"


class Killed(BaseException):
    """The process ends here."""


class Logged(logging.Handler):
    """Notes the mails that the `log` output logged, and the outputs that were reported as in doubt."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: Counter[tuple[str, ...]] = Counter()
        self.doubts: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        about = vars(record)
        if record.name == LOG_OUTPUT:
            self.mails["log", about["subject"]] += 1
        elif about.get("in_doubt"):
            self.doubts.append((about["id"], about["output"]))

    def attach(self) -> None:
        """Listen from here on."""
        logger = logging.getLogger("smtp_relay")
        self._level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def detach(self) -> None:
        """Listen no more."""
        logger = logging.getLogger("smtp_relay")
        logger.removeHandler(self)
        logger.setLevel(self._level)


class Site:
    """One cloud's stand-in, the function's code in this process, and two next servers."""

    own: tuple[str, ...] = ("event",)
    """The effects of the cloud's own outputs, as `events` names them."""

    def __init__(self, raw: Mapping[str, Any], hosts: Mapping[str, Smarthost]) -> None:
        self.raw = raw
        self.hosts = hosts
        self.logged = Logged()
        self.function: Any = None

    # The differences between clouds.

    def make_function(self, config: DeliveryConfig, age: float) -> Any:
        """The function, for which it is so many seconds before now."""
        raise NotImplementedError

    def deliver(self, key: str) -> None:
        """Have the function deliver the mail under a key, as an event does."""
        raise NotImplementedError

    def letters(self) -> BucketDeadLetters:
        """The spool's dead letters."""
        raise NotImplementedError

    def objects(self, bucket: str) -> list[dict[str, Any]]:
        """The content of a bucket: `key`, `type`, `metadata` and `text` of each object."""
        raise NotImplementedError

    def put(self, bucket: str, found: Mapping[str, Any]) -> None:
        """Store such an object."""
        raise NotImplementedError

    def table(self) -> list[dict[str, Any]]:
        """Receipts that lie outside of the bucket."""
        return []

    def fill_table(self, items: Sequence[Mapping[str, Any]], age: float) -> None:
        """Store these, as many seconds younger."""

    def events(self) -> Counter[tuple[str, ...]]:
        """The effects of the cloud's own outputs, by (output, mail)."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the site's resources."""
        self.logged.detach()
        if self.function is not None:
            self.function.runner.close()

    # The same in both clouds.

    def start(self, *, on_doubt: str = "resend", age: float = 0.0, renamed: bool = False) -> None:
        """Start the function anew. With `renamed` every output that has a name gets another."""
        if self.function is not None:
            self.function.runner.close()
        raw = copy.deepcopy(dict(self.raw))
        raw["delivery"] = {"onDoubt": on_doubt}
        for output in raw["flows"]["in"]["outputs"]:
            if output["type"] == "mailer":
                output["nodemailer"] |= {"host": HOST, "port": self.hosts[output["name"]].port}
            if renamed and "name" in output:
                output["name"] += "-renamed"
        self.function = self.make_function(
            DeliveryConfig.model_validate(raw, by_alias=True, by_name=False), age
        )

    def load(self, recording: Mapping[str, Any], *, later: float) -> float:
        """Fill the stand-in with a recording, as if it were `later` seconds old; returns the seconds by
        which the function's clock must be set back."""
        for bucket, name in ((SPOOL, "spool"), (TARGET, "target")):
            for found in recording[name]:
                self.put(bucket, found)
        age: float = time.time() - recording["recorded"] - later
        self.fill_table(recording["table"], age)
        return age

    def spooled(self) -> dict[str, str]:
        """Name of each unfinished mail to its key."""
        found = [one for one in self.objects(SPOOL) if one["key"].startswith(f"{PREFIX}spool/")]
        return {name_of(split_object(one["text"].encode())[1]): one["key"] for one in found}

    def effects(self) -> Counter[tuple[str, ...]]:
        """All effects that can be counted."""
        sent = sum((copies(name, host) for name, host in self.hosts.items()), Counter())
        return sent + self.events() + self.logged.mails

    def wait_for(self, *effect: str) -> None:
        """Wait until it took effect."""
        wait_until(lambda: self.effects()[effect] == 1, seconds=60, what=" ".join(effect))

    def spool(self, name: str) -> str:
        """Store the mail of that name as a listener does; returns its key."""
        key, data = spool_object(new_envelope(name), content_of(name), PREFIX)
        self.put(SPOOL, {"key": key, "type": "message/rfc822", "metadata": {}, "text": data.decode()})
        return key

    def kill_before_removal(self, key: str) -> None:
        """Deliver a mail whose run ends when it would take the mail out of the spool."""
        store = self.function.runner.store

        def killed(_: str) -> None:
            raise Killed

        store.delete = killed
        try:
            self.deliver(key)
        except Killed:
            del store.delete
            return
        raise AssertionError("the run went on")


def record(recording: Path, site: Site) -> None:
    """Record a site that is empty."""
    site.logged.attach()
    site.start()
    keys = {name: site.spool(name) for name in MAILS}
    running = []
    for name, server in (("claimed", "first"), ("receipts", "second")):
        # These runs hang at a server that has the mail and does not answer.
        running.append(threading.Thread(target=site.deliver, args=(keys[name],)))
        running[-1].start()
        site.wait_for(server, name, f"silent-{server}")
    for name, key in keys.items():
        if name == "done":
            site.kill_before_removal(key)
        elif name not in ("claimed", "receipts", "fresh"):
            site.deliver(key)
    letters = site.letters()
    dead = {record.id: record for record in letters.list(Selection()) if record.flow}
    letters.drop(dead[_id(keys["dropped"])])
    letters.replay(dead[_id(keys["replayed"])], now=False)
    letters.replay_kept(_id(keys["kept"]), now=False)
    write_json(
        recording,
        {
            "recorded": time.time(),
            "config": site.raw,
            "mails": {name: _id(key) for name, key in keys.items()},
            "spool": site.objects(SPOOL),
            "target": site.objects(TARGET),
            "table": site.table(),
        },
    )
    for host in site.hosts.values():
        host.close()
    for each in running:
        each.join(60)
    site.close()


def _id(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".eml")
