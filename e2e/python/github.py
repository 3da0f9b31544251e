"""What github.com answers to gh-scoped-creds and to git: a proxy on the loopback interface that is github.com.

Arguments: a certificate for github.com, its key, and the client ID of the one GitHub App that it knows. Prints its
port. Whoever has the code enters it at once, so that the second question for a token is answered with one.

As GitHub documents the device flow of a GitHub App ("Generating a user access token"); of a repository it tells what
refs it has, in git's dumb protocol, to whoever has that token.
"""

import base64
import http.server
import json
import socketserver
import ssl
import sys
from urllib.parse import parse_qsl, urlsplit

CERTIFICATE, KEY, CLIENT_ID = sys.argv[1:]
DEVICE_CODE = "3584d83530557fdd1f46af8289938c8ef79f9dc5"
TOKEN = "ghu_16C7e42F292c6912E7710c838347Ae178B4a"
REFS = b"6dcb09b5b57875f334f61aebed695e2e4193db5e\trefs/heads/main\n"

asked = 0


class GitHub(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global asked
        length = int(self.headers["Content-Length"])
        form = dict(parse_qsl(self.rfile.read(length).decode()))
        if form.get("client_id") != CLIENT_ID:
            self.answer(404, {"error": "Not Found"})
        elif self.path == "/login/device/code":
            self.answer(200, {
                "device_code": DEVICE_CODE, "user_code": "WDJB-MJHT", "interval": 1, "expires_in": 900,
                "verification_uri": "https://github.com/login/device",
            })
        elif self.path != "/login/oauth/access_token":
            self.answer(404, {"error": "Not Found"})
        elif form.get("device_code") != DEVICE_CODE:
            self.answer(200, {"error": "incorrect_device_code"})
        elif asked == 0:
            asked += 1
            self.answer(200, {"error": "authorization_pending"})
        else:
            self.answer(200, {"access_token": TOKEN, "token_type": "bearer", "scope": "", "expires_in": 28800})

    def do_GET(self):
        wanted = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if urlsplit(self.path).path != "/ocean/notes/info/refs":
            self.answer(404, {})
        elif self.headers.get("Authorization") != wanted:
            self.answer(401, {}, {"WWW-Authenticate": 'Basic realm="GitHub"'})
        else:
            self.answer(200, REFS)

    def answer(self, status, body, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers, **{"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Proxy(socketserver.StreamRequestHandler):
    def handle(self):
        if not self.rfile.readline().startswith(b"CONNECT github.com:443 "):
            return
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with tls.wrap_socket(self.connection, server_side=True) as inside:
            GitHub(inside, self.client_address, self.server)


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CERTIFICATE, KEY)
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
