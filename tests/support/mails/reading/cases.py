"""All cases."""

from __future__ import annotations

from typing import Final

from tests.support.mails.reading.body_cases import body_cases
from tests.support.mails.reading.case import Case
from tests.support.mails.reading.header_cases import header_cases

CASES: Final[list[Case]] = [*header_cases(), *body_cases()]
