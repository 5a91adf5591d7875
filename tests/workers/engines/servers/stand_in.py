"""What a worker starts in place of vLLM: a program with its options, and a process of its own beside it, as vLLM has.

In the folder of ``--model`` it appends to `pids` what it started. A prompt with CRASH ends it, one with HANG stops it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from workers.engines.fake import expected_text

CRASH, HANG = "[[crash]]", "[[hang]]"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked["messages"][-1]["content"]
        if CRASH in prompt:
            os._exit(139)
        if HANG in prompt and not Path(option("--model"), "hung").exists():
            Path(option("--model"), "hung").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()  # another thread may have got the signal
        message = {"role": "assistant", "content": expected_text(prompt, asked["max_tokens"])}
        self._answer({"model": asked["model"], "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})

    def _answer(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("socket", 0)


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> None:
    if "--fail" in sys.argv:
        sys.exit("No such option: --fail")
    beside = subprocess.Popen(["sleep", "1000"])
    with Path(option("--model"), "pids").open("a") as pids:
        pids.write(f"{os.getpid()} {beside.pid}\n")
    Path(option("--model"), "environment").write_text("\n".join(os.environ))
    Server(option("--uds"), Handler).serve_forever()


if __name__ == "__main__":
    main()
