"""The Lambda function: `functions.aws.handler.handler`.

Its configuration is `relay.json` beside the code, where the bundle puts it, or
SMTP_RELAY_CONFIG_JSON. SMTP_RELAY_SPOOL, SMTP_RELAY_QUEUE_URL and SMTP_RELAY_RECEIPTS_TABLE name
the deployed resources.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# Start-up objects live as long as the process. Searching them for garbage costs an eighth of the
# start.
gc.disable()

# Batch is imported first, because it looks whether pydantic is loaded, and then builds models that
# are not used here.
from aws_lambda_powertools.utilities.batch import EventType as _  # noqa: E402, F401, I001
from aws_lambda_powertools.logging import Logger  # noqa: E402

from functions.config import load_delivery  # noqa: E402

if TYPE_CHECKING:
    from functions.aws.function import LambdaFunction

CONFIG: Final = "relay.json"

logger: Final = Logger(
    service="smtp_relay", log_record_order=["level", "message"], serialize_stacktrace=False
)
"""All modules log below this name, as JSON and with the mail's id."""

_function: LambdaFunction | None = None


def start(*, eager: bool) -> LambdaFunction:
    """The function's parts, made once in a process. Raises ConfigError."""
    global _function  # noqa: PLW0603 - one per process
    if _function is None:
        from functions.aws.function import LambdaFunction

        folder = Path(os.environ.get("LAMBDA_TASK_ROOT") or Path(__file__).resolve().parents[2])
        _function = LambdaFunction(load_delivery(folder / CONFIG, os.environ), os.environ, eager=eager)
    return _function


def handler(event: Any, context: Any) -> dict[str, Any]:
    """One invocation."""
    logger.append_keys(request=getattr(context, "aws_request_id", None))
    return start(eager=False).handle(event, context)


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    # A start has more CPU than the invocations after it.
    start(eager=True)

gc.freeze()
gc.enable()
