"""One invocation of the Lambda function's handler in a process of its own, with a minute to run:
`python -m tests.faults.campaign.clouds.aws_run EVENT`; the environment is the function's."""

from __future__ import annotations

import json
import sys
import time


class Context:
    """Lambda's."""

    aws_request_id = "apart"

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends - time.monotonic()) * 1000))


if __name__ == "__main__":
    from functions.aws.handler import handler

    handler(json.loads(sys.argv[1]), Context(60))
