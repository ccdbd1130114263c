"""The message that the mailer sends: the mail with its header edited and signed, read again for each
sending."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from functions.errors import Permanent, Temporary
from functions.message.canon import CRLF, RelaxedBody
from functions.message.headers import HeadCollector, HeaderTooLarge, separator
from functions.message.mail import MAX_HEAD, Mail
from functions.smtp_client.lines import crlf_lines, skipped

if TYPE_CHECKING:
    from functions.processors.mailer.dkim import Signer

Edit = Callable[[bytes], bytes]
Choose = Callable[[bytes], "Signer | None"]


class OutgoingMessage:
    """One mail as one flow's mailer sends it. `size` counts its bytes, `eight_bit` says that some
    bytes are above 127, `eight_bit_head` that some bytes of its header are.

    It is read once when it is made, to measure and to sign it, and once for each transaction;
    memory stays at its header and one piece. Raises Permanent for a header too large to hold,
    Temporary if the mail cannot be read.
    """

    def __init__(self, mail: Mail, flow: str, edit: Edit, choose: Choose) -> None:
        self._mail = mail
        self._flow = flow
        try:
            self._read(edit, choose)
        except OSError as error:
            raise Temporary(f"the mail cannot be read: {error.strerror or error}") from error

    def chunks(self) -> Iterator[bytes]:
        """The mail, in lines that end in CRLF."""
        yield self._head
        yield from skipped(self._source(), self._skip)

    def _source(self) -> Iterator[bytes]:
        return crlf_lines(self._mail.chunks(self._flow))

    def _read(self, edit: Edit, choose: Choose) -> None:
        source = self._source()
        collector = HeadCollector(MAX_HEAD)
        rest: bytes | None = None
        try:
            while rest is None and (piece := next(source, None)) is not None:
                rest = collector.feed(piece)
            if rest is None:
                rest = collector.finish()
        except HeaderTooLarge as error:
            raise Permanent(str(error), enhanced="5.3.4") from error
        original = collector.head
        head = edit(original)
        signer = choose(head)
        body = RelaxedBody() if signer is not None else None
        # The body begins below the empty line; a mail without a header is all body.
        gap = len(CRLF) if rest.startswith(CRLF) else 0
        size = len(rest)
        self.eight_bit = not rest.isascii()
        if body is not None:
            body.feed(rest[gap:])
        for piece in source:
            size += len(piece)
            self.eight_bit = self.eight_bit or not piece.isascii()
            if body is not None:
                body.feed(piece)
        if signer is not None and body is not None:
            head = signer.sign(head, body.digest(), int(time.time())) + head
        if head and not original:
            head += separator(b"", rest)
        self._skip = len(original)
        self._head = head
        self.eight_bit_head = not head.isascii()
        self.eight_bit = self.eight_bit or self.eight_bit_head
        self.size = len(head) + size
