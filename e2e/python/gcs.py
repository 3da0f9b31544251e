"""Stands for Google Cloud Storage: as much of its JSON API as gcsfs needs to write a small object and to
read it, and the token endpoint. Unlike the fakes that packages bring, it asks for a token, and gives one
only for a signature of the key that it has put into sys.argv[1] as a service account's key file."""

import json
import re
import secrets
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
# Wherever the token endpoint is, assertions are for this one.
AUDIENCE = "https://oauth2.googleapis.com/token"
TOKENS = set()
UPLOADS = {}
OBJECTS = {}


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body, headers={}):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_allowed(self):
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in TOKENS

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/token":
            form = dict(urllib.parse.parse_qsl(body.decode()))
            try:
                jwt.decode(form["assertion"], certs=PUBLIC, audience=AUDIENCE)
            except ValueError as error:
                return self.answer(400, {"error": "invalid_grant", "error_description": str(error)})
            token = secrets.token_hex()
            TOKENS.add(token)
            return self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600})
        upload = re.fullmatch("/upload/storage/v1/b/([^/]+)/o", url.path)
        if not self.is_allowed():
            return self.answer(401, {"error": {"code": 401, "message": "Invalid Credentials"}})
        if url.path.startswith("/uploads/"):
            begun = UPLOADS.pop(url.path.removeprefix("/uploads/"))
            OBJECTS[begun] = body
            return self.answer(200, self.metadata(*begun))
        if not upload:
            return self.answer(501, {"error": {"code": 501, "message": self.path}})
        query = dict(urllib.parse.parse_qsl(url.query))
        if query["uploadType"] == "resumable":
            session = secrets.token_hex()
            UPLOADS[session] = (upload[1], query["name"])
            return self.answer(200, {}, {"Location": f"{URL}/uploads/{session}"})
        boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
        _, metadata, content, _ = body.split(b"--" + boundary)
        name = json.loads(re.split(b"\r?\n\r?\n", metadata, maxsplit=1)[1])["name"]
        content = re.split(b"\r?\n\r?\n", content, maxsplit=1)[1]
        OBJECTS[upload[1], name] = content[:-1]
        self.answer(200, self.metadata(upload[1], name))

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        wanted = re.fullmatch("(?:/download)?/storage/v1/b/([^/]+)/o/(.+)", url.path)
        if not self.is_allowed():
            return self.answer(401, {"error": {"code": 401, "message": "Invalid Credentials"}})
        if not wanted:
            return self.answer(501, {"error": {"code": 501, "message": self.path}})
        bucket, name = wanted[1], urllib.parse.unquote(wanted[2])
        if (bucket, name) not in OBJECTS:
            return self.answer(404, {"error": {"code": 404, "message": "Not Found"}})
        if "alt=media" in url.query:
            return self.answer(200, OBJECTS[bucket, name])
        self.answer(200, self.metadata(bucket, name))

    def metadata(self, bucket, name):
        path = f"{URL}/download/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        size = str(len(OBJECTS[bucket, name]))
        return {"bucket": bucket, "name": name, "size": size, "mediaLink": path, "generation": "1"}


server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
URL = f"http://127.0.0.1:{server.server_port}"
pem = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
with open(sys.argv[1], "w") as file:
    json.dump(
        {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "somebody@project.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{URL}/token",
        },
        file,
    )
print(URL, flush=True)
server.serve_forever()
