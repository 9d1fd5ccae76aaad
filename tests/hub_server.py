# Copyright 2026 The yolox-hf authors.
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""A Hub of one repository: as much of its protocol as `huggingface_hub` uses to download and to commit."""

import base64
import hashlib
import http.server
import json
import threading

REPO = "someone/yolox"
COMMIT = "c" * 40


class HubServer:
    """Serves `files` (bytes by name) as `REPO`.

    With a `token` every request needs it. `cut[name]` counts downloads of a file that end half-way. Weights are
    uploaded as the Hub asks for large files: through the LFS batch address, ahead of the commit that names them.
    """

    def __init__(self, files: dict[str, bytes] | None = None, token: str | None = None):
        self.files = files
        self.token = token
        self.cut: dict[str, int] = {}
        self.commits: list[str] = []
        self.large: set[str] = set()
        self._objects: dict[str, bytes] = {}
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def reply(self, status, body=b"", headers=(), send=None):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **dict(headers)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body if send is None else body[:send])
                if send is not None:
                    self.close_connection = True

            def refused(self):
                if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    self.reply(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
                    return True
                return False

            def do_GET(self):
                path = self.path.partition("?")[0]
                if self.refused():
                    return
                if path.startswith(f"/{REPO}/resolve/") and hub.files is not None:
                    name = path.split("/", 5)[5]
                    if name not in hub.files:
                        self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                        return
                    self.send_file(name, hub.files[name])
                elif path.startswith(f"/api/models/{REPO}/tree/") and hub.files is not None:
                    self.reply(
                        200,
                        [
                            {"type": "file", "path": name, "size": len(hub.files[name]), "oid": "0"}
                            for name in hub.files
                        ],
                    )
                elif path.startswith(f"/api/models/{REPO}") and hub.files is not None:
                    siblings = [{"rfilename": name} for name in hub.files]
                    self.reply(200, {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "tags": []})
                else:
                    self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})

            do_HEAD = do_GET

            def send_file(self, name, content):
                etag = hashlib.sha256(content).hexdigest()
                headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                status, start = 200, 0
                if wanted := self.headers.get("Range"):
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
                    status = 206
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                send = None
                if self.command == "GET" and hub.cut.get(name, 0) > 0:
                    hub.cut[name] -= 1
                    send = (len(content) - start) // 2
                self.reply(status, content[start:], headers, send)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.refused():
                    return
                address = f"http://127.0.0.1:{self.server.server_port}/{REPO}"
                if self.path == "/api/validate-yaml":  # of a card
                    self.reply(200, {"errors": [], "warnings": []})
                elif self.path == "/api/repos/create":
                    hub.files = {} if hub.files is None else hub.files
                    self.reply(200, {"url": address, "name": REPO})
                elif self.path.startswith(f"/api/models/{REPO}/preupload/"):
                    names = [file["path"] for file in json.loads(body)["files"]]
                    modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
                    files = [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in names]
                    self.reply(200, {"files": files})
                elif self.path == f"/{REPO}.git/info/lfs/objects/batch":
                    base = f"http://127.0.0.1:{self.server.server_port}/lfs/"
                    objects = [
                        {**item, "actions": {"upload": {"href": base + item["oid"]}}}
                        for item in json.loads(body)["objects"]
                    ]
                    self.reply(200, {"transfer": "basic", "objects": objects})
                elif self.path.startswith(f"/api/models/{REPO}/commit/"):
                    for line in body.decode().splitlines():
                        item = json.loads(line)
                        if item["key"] == "header":
                            hub.commits.append(item["value"]["summary"])
                        elif item["key"] == "lfsFile":
                            hub.files[item["value"]["path"]] = hub._objects[item["value"]["oid"]]
                            hub.large.add(item["value"]["path"])
                        else:
                            hub.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                    url = f"{address}/commit/{COMMIT}"
                    self.reply(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
                else:
                    self.reply(404, b"")

            def do_PUT(self):  # to an address that is itself the permission
                content = self.rfile.read(int(self.headers["Content-Length"]))
                oid = self.path.rpartition("/")[2]
                if hashlib.sha256(content).hexdigest() == oid:
                    hub._objects[oid] = content
                    self.reply(200)
                else:
                    self.reply(400)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()
