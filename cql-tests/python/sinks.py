"""A real mail server and a real HTTP server that keep what they get.

sinks.py FOLDER MANUAL [plain]

Prints the ports of both. FOLDER gets ca.pem, mails.jsonl and posts.jsonl, a line for each message;
FOLDER/script.json says what is answered, FOLDER/webhook.secret is what requests are signed with. The check of signatures is the one in MANUAL, so that it is
tested as it stands there. With `plain` the mail server offers neither STARTTLS nor AUTH.
"""

import asyncio
import email
import email.policy
import json
import pathlib
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme
from aiosmtpd.smtp import SMTP, AuthResult

FOLDER = pathlib.Path(sys.argv[1])
MANUAL = pathlib.Path(sys.argv[2]).read_text()
PLAIN = "plain" in sys.argv[3:]
LOCK = threading.Lock()

code = re.search(r"```python\n(import hashlib.*?)```", MANUAL, re.S).group(1)
manual = {}
exec(code, manual)


class Script:
    """What the test wants answered; the first answers are counted from each change of the file."""

    def __init__(self):
        self.text, self.used = None, 0

    def read(self):
        try:
            text = (FOLDER / "script.json").read_text()
        except FileNotFoundError:
            text = "{}"
        if text != self.text:
            self.text, self.used = text, 0
        return json.loads(text)

    def status(self):
        with LOCK:
            script = self.read()
            first = script.get("first", [])
            self.used += 1
            return first[self.used - 1] if self.used <= len(first) else script.get("then", 204)

    def refused(self):
        with LOCK:
            return self.read().get("refused", [])


SCRIPT = Script()


def keep(name, value):
    with LOCK, open(FOLDER / name, "a") as file:
        file.write(json.dumps(value) + "\n")


class Posts(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signature = self.headers.get("Coffer-Signature")
        secret = manual["read_secret"](FOLDER / "webhook.secret")
        genuine = signature is not None and manual["is_genuine"](signature, body, secret)
        forged = signature is not None and manual["is_genuine"](signature, body + b" ", secret)
        status = SCRIPT.status()
        keep("posts.jsonl", {
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": json.loads(body),
            "status": status,
            "genuine": genuine and not forged,
        })
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        keep("posts.jsonl", {"path": self.path, "status": 0})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Mails:
    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if address in SCRIPT.refused():
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        keep("mails.jsonl", {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "text": message.get_content(),
            "tls": session.ssl is not None,
            "authenticated": bool(session.authenticated),
        })
        return "250 Message accepted for delivery"


def authenticate(_server, _session, _envelope, _mechanism, data):
    is_right = data.login == b"coffer" and data.password == b"mail-password"
    return AuthResult(success=is_right, handled=True)


async def main():
    authority = trustme.CA()
    authority.cert_pem.write_to_path(FOLDER / "ca.pem")
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def session():
        if PLAIN:
            return SMTP(Mails(), enable_SMTPUTF8=True)
        return SMTP(
            Mails(), tls_context=context, require_starttls=True, auth_required=True,
            authenticator=authenticate, enable_SMTPUTF8=True,
        )

    smtp = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Posts)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(smtp.sockets[0].getsockname()[1], http.server_address[1], flush=True)
    await smtp.serve_forever()


asyncio.run(main())
