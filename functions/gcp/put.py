"""The create-only upload of Cloud Storage: `ifGenerationMatch=0`."""

from __future__ import annotations

from typing import Any, BinaryIO, Final

from functions.gcp.clients import TIMEOUT, again
from functions.gcp.faults import fault_of, status_of

_TAKEN: Final = "storage.objects.delete"
"""The permission that overwriting would take: being refused for want of it says that the object is
there, which happens to those who may only create."""


def put_new(blob: Any, body: BinaryIO, content_type: str, what: str) -> bool:
    """Upload under a key that is free. False where it is taken. Raises DeliveryFault.

    False may also mean that an earlier attempt of ours worked and its answer was lost: who needs to
    know looks at the object.
    """
    size = body.seek(0, 2)
    body.seek(0)
    try:
        blob.upload_from_file(
            body,
            size=size,
            content_type=content_type,
            if_generation_match=0,
            timeout=TIMEOUT,
            retry=again(),
        )
    except Exception as error:
        status = status_of(error)
        if status == 412 or (status == 403 and _TAKEN in str(error)):
            return False
        raise fault_of(error, what) from error
    return True
