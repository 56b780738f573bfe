"""Waits until an S3 server takes signed requests: makes the bucket, writes an object, reads it back, removes it.

    s3_ready.py ENDPOINT ACCESS_KEY SECRET_KEY BUCKET SECONDS
"""

import datetime
import hashlib
import hmac
import http.client
import sys
import time
import urllib.error
import urllib.request


def signed(endpoint, access, secret, method, path, body=b""):
    """An AWS Signature Version 4 request; `path` must need no escaping."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": endpoint.split("://")[1], "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in [*scope.split("/"), to_sign]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"Credential={access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}"
    request = urllib.request.Request(endpoint + path, method=method, headers=headers)
    request.data = body if method == "PUT" else None
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def main():
    endpoint, access, secret, bucket, seconds = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    while True:
        try:
            try:
                signed(endpoint, access, secret, "PUT", f"/{bucket}")
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise
            signed(endpoint, access, secret, "PUT", f"/{bucket}/ready", b"ready")
            if signed(endpoint, access, secret, "GET", f"/{bucket}/ready") == b"ready":
                signed(endpoint, access, secret, "DELETE", f"/{bucket}/ready")
                return 0
            problem = "it reads back something else"
        except (OSError, http.client.HTTPException) as error:
            problem = error
        if time.monotonic() > until:
            print(f"{endpoint} did not answer within {seconds} s: {problem}", file=sys.stderr)
            return 1
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
