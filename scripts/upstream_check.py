#!/usr/bin/env python3
"""Holds remote lanes to a real server: llama.cpp's, from the package llama-cpp-python, with the openai package as client.

    pip install openai 'llama-cpp-python[server]'
    scripts/upstream_check.py target/release/sconce

Starts that server with the built-in model's file, and sconce in front of it with a route that goes there. Every answer
through sconce is compared with the one that the server gives itself (greedy, so that both are the same), streamed and not;
then the server is killed, and the route has to answer from here and say so. Not part of CI: the package compiles llama.cpp.
"""

import argparse
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from openai import APIStatusError, OpenAI

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return "
CHAT = [{"role": "user", "content": "Write a Python function that adds two numbers."}]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url, process, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, f"the server at {url} ended"
        try:
            return urllib.request.urlopen(url, timeout=2).read()
        except OSError:
            time.sleep(0.3)
    raise SystemExit(f"nothing answers at {url}")


def start_upstream(port, arguments, log):
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(ROOT / "models/embedded/model.gguf"), "--port", str(port),
               "--n_ctx", "1024", "--model_alias", "upstream", *arguments]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_for(f"http://127.0.0.1:{port}/v1/models", process)
    return process


def start_sconce(binary, port, folder, log):
    settings = folder / "sconce.toml"
    settings.write_text(f"""
catalog.embedded = "on"
[providers.llama]
kind = "openai"
url = "http://127.0.0.1:{port}/v1"
api_key = "sk-upstream"
[models.far]
lanes = ["llama:upstream", "local:sconce"]
remote = "always"
""")
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--config", settings]
    environment = {**os.environ, "SCONCE__METRICS__LISTEN": "127.0.0.1:0"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    banner = ""
    while "curl " not in banner:
        line = process.stdout.readline()
        assert line, f"sconce ended:\n{banner}"
        banner += line
    return process, re.search(r"listening +(\S+)", banner)[1]


def completion(client, model, **more):
    return client.completions.with_raw_response.create(model=model, prompt=PROMPT, max_tokens=12, temperature=0, **more)


def check(name, holds, shown=""):
    print(f"  {'ok  ' if holds else 'FAIL'}  {name}" + ("" if holds else f": {shown}"))
    return holds


def compare(upstream, sconce):
    """Both ways to ask, both ways to answer."""
    direct, through = completion(upstream, "upstream"), completion(sconce, "far")
    lane = through.headers.get("x-sconce-lane")
    texts = [answer.parse().choices[0].text for answer in (direct, through)]
    results = [check("a completion is the server's own", texts[0] == texts[1], texts), check("its lane is named", lane == "llama:upstream", lane)]
    pieces = [[part.choices[0].text for part in client.completions.create(model=model, prompt=PROMPT, max_tokens=12, temperature=0, stream=True)
               if part.choices] for client, model in ((upstream, "upstream"), (sconce, "far"))]
    results.append(check("a streamed one too, piece by piece", "".join(pieces[0]) == "".join(pieces[1]) and len(pieces[1]) > 2, pieces))
    ask = dict(messages=CHAT, max_tokens=24, temperature=0)
    chats = [client.chat.completions.create(model=model, **ask) for client, model in ((upstream, "upstream"), (sconce, "far"))]
    said = [chat.choices[0].message.content for chat in chats]
    results.append(check("a chat is the server's own", said[0] == said[1], said))
    streamed = "".join(part.choices[0].delta.content or "" for part in sconce.chat.completions.create(model="far", stream=True, **ask) if part.choices)
    results.append(check("a streamed chat too", streamed == said[0], [streamed, said[0]]))
    counted = [part.usage.prompt_tokens for part in upstream.chat.completions.create(
        model="upstream", stream=True, stream_options={"include_usage": True}, **ask) if part.usage]
    used = (counted[-1] if counted else 0, chats[1].usage.prompt_tokens)
    results.append(check("tokens are counted as that server counts in streams, if it does", used[0] == used[1], used))
    stopped = completion(sconce, "far", stop=["\n"]).parse().choices[0].text
    results.append(check("a stop string ends it", "\n" not in stopped and texts[0].startswith(stopped), stopped))
    return results


def after_a_kill(process, sconce):
    process.kill()
    process.wait()
    answer = completion(sconce, "far")
    lane, passed = answer.headers.get("x-sconce-lane"), answer.headers.get("x-sconce-passed")
    return [check("a killed server is stood in for", (lane, passed) == ("local:sconce", "llama:upstream;failed"), (lane, passed)),
            check("the answer is one", len(answer.parse().choices[0].text) > 0)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sconce")
    parser.add_argument("upstream", nargs="*", help="further arguments of that server, behind --, such as: -- --n_ubatch 1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder, port = pathlib.Path(folder), free_port()
        processes = []
        with open(folder / "log", "w") as log:
            try:
                processes.append(start_upstream(port, arguments.upstream, log))
                process, address = start_sconce(arguments.sconce, port, folder, log)
                processes.append(process)
                upstream = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-upstream", max_retries=0)
                sconce = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
                print(f"llama.cpp's server on port {port}, sconce at {address}")
                results = compare(upstream, sconce)
                try:
                    completion(sconce, "nobody")
                    results.append(check("an unknown model is refused", False))
                except APIStatusError as error:
                    results.append(check("an unknown model is refused", error.status_code == 404, error.status_code))
                results += after_a_kill(processes[0], sconce)
            finally:
                for process in processes:
                    process.kill()
        if not all(results):
            print((folder / "log").read_text()[-4000:])
            raise SystemExit(f"{results.count(False)} of {len(results)} checks failed")
        print(json.dumps({"checks": len(results), "failed": 0}))


if __name__ == "__main__":
    main()
