"""Lambda function: exports one certificate of ACM into one secret of Secrets Manager.

It runs when ACM has issued or renewed the certificate (EventBridge, "ACM Certificate Available"), and once
when it is deployed. Certificate, chain and key are written at once, so that a reader never gets two halves.
The key stays encrypted as ACM exports it (AWS Certificate Manager API, ExportCertificate), with a new
passphrase that is stored beside it: the function then needs no library, and its memory never holds the bare
key.
"""

import json
import os
import secrets
import urllib.request
from typing import Any

import boto3

TIMEOUT = 10


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Answers the version of the secret. `event`: one of EventBridge, one of CloudFormation for a custom
    resource, or anything else, which exports too. Raises what the calls raise, so that Lambda tries again;
    CloudFormation is told instead."""
    if "ResponseURL" in event:
        return _answered(event)
    if event.get("source") == "aws.acm" and os.environ["CERTIFICATE"] not in event.get("resources", ()):
        return {"version": ""}
    return {"version": renew()}


def renew() -> str:
    """Export and store; the version of the secret."""
    arn, passphrase = os.environ["CERTIFICATE"], secrets.token_hex(32)
    found = boto3.client("acm").export_certificate(CertificateArn=arn, Passphrase=passphrase.encode())
    value = {
        "certificate": found["Certificate"],
        "certificateChain": found.get("CertificateChain") or "",
        "privateKey": found["PrivateKey"],
        "passphrase": passphrase,
    }
    stored = boto3.client("secretsmanager").put_secret_value(
        SecretId=os.environ["SECRET"], SecretString=json.dumps(value)
    )
    version: str = stored["VersionId"]
    print(json.dumps({"message": "certificate stored", "certificate": arn, "version": version}))
    return version


def _answered(event: dict[str, Any]) -> dict[str, str]:
    status, reason, version = "SUCCESS", "the certificate is stored", ""
    if event["RequestType"] != "Delete":
        try:
            version = renew()
        except Exception as error:  # noqa: BLE001 - CloudFormation waits for an answer
            status, reason = "FAILED", f"the certificate cannot be stored: {error}"
    names = ("StackId", "RequestId", "LogicalResourceId")
    answer = {name: event[name] for name in names} | {
        "Status": status,
        "Reason": reason,
        "PhysicalResourceId": event.get("PhysicalResourceId", "certificate"),
    }
    request = urllib.request.Request(
        event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT):
        pass
    return {"version": version}
