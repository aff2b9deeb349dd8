"""Calls a KMS with boto3 for a test: a JSON request a line on standard input, a JSON answer a line on output.

usage: kms.py ENDPOINT REGION [PROFILE]   (credentials: AWS_SHARED_CREDENTIALS_FILE)
request: {"operation": "CreateKey", "arguments": {...}}; bytes are {"base64": "..."}
answer: {"ok": {...}} or {"error": {"Code": ..., "Message": ...}}
"""

import base64
import json
import sys
from datetime import datetime

import boto3
import botocore.exceptions
from botocore import xform_name
from botocore.config import Config


def bytes_of(value):
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {name: bytes_of(part) for name, part in value.items()}
    return [bytes_of(part) for part in value] if isinstance(value, list) else value


def plain(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(type(value))


def main():
    endpoint, region = sys.argv[1:3]
    session = boto3.Session(profile_name=sys.argv[3] if len(sys.argv) > 3 else None, region_name=region)
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60)
    client = session.client("kms", endpoint_url=endpoint, config=config)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            call = getattr(client, xform_name(request["operation"]))
            answer = call(**bytes_of(request.get("arguments", {})))
            answer.pop("ResponseMetadata", None)
            answer = {"ok": answer}
        except botocore.exceptions.ClientError as error:
            answer = {"error": {name: error.response["Error"].get(name, "") for name in ("Code", "Message")}}
        except botocore.exceptions.BotoCoreError as error:
            answer = {"error": {"Code": type(error).__name__, "Message": str(error)}}
        print(json.dumps(answer, default=plain), flush=True)


main()
