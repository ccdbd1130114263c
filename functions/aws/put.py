"""The create-only PUT of S3: `If-None-Match: *`."""

from __future__ import annotations

import random
import time
from typing import Any, Final

from functions.aws.faults import error_code, fault_of, status_of

_CONFLICTS: Final = 5
"""Tries when another request for the same key is under way (409): it may still fail."""


def put_new(client: Any, what: str, **arguments: Any) -> bool:
    """PutObject under a key that is free. False where it is taken. Raises DeliveryFault.

    False may also mean that an earlier attempt of ours worked and its answer was lost: who needs to
    know looks at the object.
    """
    for attempt in range(_CONFLICTS):
        try:
            client.put_object(**arguments, IfNoneMatch="*")
        except Exception as error:
            if status_of(error) == 412 or error_code(error) == "PreconditionFailed":
                return False
            if status_of(error) != 409 or attempt == _CONFLICTS - 1:
                raise fault_of(error, what) from error
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 - jitter
        else:
            return True
    raise AssertionError("unreachable")
