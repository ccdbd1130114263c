"""Custom resource: lets a stack be deleted only when no mail in its spool is unfinished."""

import json
import urllib.request
from typing import Any

import boto3

TIMEOUT = 10


def handler(event: dict[str, Any], context: Any) -> None:
    """Answers CloudFormation. Properties: Bucket, Prefix (of unfinished mails)."""
    properties = event["ResourceProperties"]
    status, reason = "SUCCESS", "no mail is unfinished"
    if event["RequestType"] == "Delete":
        try:
            found = boto3.client("s3").list_objects_v2(
                Bucket=properties["Bucket"], Prefix=properties["Prefix"], MaxKeys=2
            )
            task = [each["Key"] for each in found.get("Contents", []) if each["Key"].endswith(".eml")]
            if task:
                status, reason = "FAILED", f"mail in {properties['Bucket']} is unfinished: {task[0]}"
        except Exception as error:  # noqa: BLE001 - CloudFormation waits for an answer
            status, reason = "FAILED", f"{properties['Bucket']} cannot be looked through: {error}"
    _answer(event, status, reason)


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
