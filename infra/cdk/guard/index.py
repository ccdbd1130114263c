"""Custom resource: a stack is deleted, or its spool left, only when no mail in it is unfinished or dead."""

import json
import urllib.request
from typing import Any

import boto3

TIMEOUT = 10


def handler(event: dict[str, Any], context: Any) -> None:
    """Answers CloudFormation. Properties: Bucket, Prefix ("" or a path that ends in /), Ephemeral."""
    status, reason = "SUCCESS", "no mail is unfinished or dead"
    left = spool_that_is_left(event)
    if left is not None:
        bucket, prefix = left
        try:
            pages = boto3.client("s3").get_paginator("list_objects_v2")
            for name, kind, suffix in (("spool", "unfinished", ".eml"), ("dead", "dead", ".json")):
                found = pages.paginate(Bucket=bucket, Prefix=f"{prefix}{name}/")
                keys = (each["Key"] for page in found for each in page.get("Contents", []))
                task = next((key for key in keys if key.endswith(suffix)), None)
                if task is not None:
                    status, reason = "FAILED", f"mail in {bucket} is {kind}: {task}"
                    break
        except Exception as error:  # noqa: BLE001 - CloudFormation waits for an answer
            status, reason = "FAILED", f"{bucket} cannot be looked through: {error}"
    _answer(event, status, reason)


def spool_that_is_left(event: dict[str, Any]) -> tuple[str, str] | None:
    """Bucket and prefix that this event would delete or leave behind, None for no such thing."""
    new, old = event["ResourceProperties"], event.get("OldResourceProperties", {})
    if event["RequestType"] == "Delete":
        return None if new.get("Ephemeral") == "true" else _place(new)
    if event["RequestType"] != "Update" or not old:
        return None
    moved = _place(new) != _place(old)
    becomes = new.get("Ephemeral") == "true" and old.get("Ephemeral") != "true"
    return _place(old) if moved or becomes else None


def _place(properties: dict[str, Any]) -> tuple[str, str]:
    return properties["Bucket"], properties["Prefix"].removesuffix("spool/")


def _answer(event: dict[str, Any], status: str, reason: str) -> None:
    names = ("StackId", "RequestId", "LogicalResourceId")
    answer = {name: event[name] for name in names} | {
        "Status": status,
        "Reason": reason,
        "PhysicalResourceId": event.get("PhysicalResourceId", "spool-guard"),
    }
    request = urllib.request.Request(
        event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT):
        pass
