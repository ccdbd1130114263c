"""The image's health check: requests this container's own `/healthz`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Final

from functions.message.text import escaped
from functions.options.environment import variable

_TIMEOUT: Final = 4.0  # seconds, within the image's 5


def main(environ: Mapping[str, str]) -> int:
    """0 if the server is alive and accepting, else 1. Also 0 if health is not served on
    `SMTP_RELAY_HEALTH_PORT`, because nothing is known then."""
    port = variable(environ, "SMTP_RELAY_HEALTH_PORT")
    if not port:
        return 0
    connection = HTTPConnection("127.0.0.1", int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        print(f"unhealthy: {escaped(str(error))}")
        return 1
    finally:
        connection.close()
    print("healthy" if status < 300 else f"unhealthy: {status}")
    return 0 if status < 300 else 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
