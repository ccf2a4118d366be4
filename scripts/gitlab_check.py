#!/usr/bin/env python3
"""Starts Sconce as GitLab's gateway and calls it as GitLab and its editors do.

    scripts/gitlab_check.py target/release/sconce [NAME=PATH]

With NAME=PATH that model is served instead of the built-in one; SCONCE__ variables are passed on. Needs `pip install pyjwt cryptography`. Runs a GitLab of its own (discovery, keys, tokens) on a free port of this machine,
starts the binary with AIGW_GITLAB_URL set and the built-in model, prints one line a check, and exits with 1 if one failed.
"""

import base64
import http.client
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

try:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa
except ImportError:
    sys.exit("pyjwt and cryptography are missing: pip install pyjwt cryptography")

INSTANCE, USER = "5f3c1c2e-7a0b-4f0e-9a2f-2f6f1d9f1a11", "u7Qk0mF3r1m0yq1a2H7m5l1nq0G6sX0b8b2v4w6x8y0="
SCOPES = [
    "complete_code", "generate_code", "code_suggestions", "ai_gateway_model_provider_proxy", "duo_chat",
    "duo_classic_chat", "documentation_search", "explain_code", "generate_commit_message", "review_merge_request",
    "ask_issue", "self_hosted_models",
]


class Gitlab:
    """Discovery, a key set and tokens; keys can be rotated."""

    def __init__(self):
        self.rotate()
        gitlab = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                pages = {
                    "/.well-known/openid-configuration": {"issuer": gitlab.url, "jwks_uri": f"{gitlab.url}/oauth/discovery/keys"},
                    "/oauth/discovery/keys": {"keys": [gitlab.jwk()]},
                }
                page = pages.get(self.path)
                body = json.dumps(page or {}).encode()
                self.send_response(200 if page else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def rotate(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        number = lambda value: base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode().rstrip("=")
        return {"kty": "RSA", "kid": self.key_id, "use": "sig", "alg": "RS256", "n": number(numbers.n), "e": number(numbers.e)}

    def token(self, **changes):
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": ["gitlab-ai-gateway", "gitlab-duo-workflow-service"], "sub": INSTANCE,
            "gitlab_realm": "self-managed", "scopes": SCOPES, "iat": now, "nbf": now - 5, "exp": now + 3600,
        }
        return jwt.encode({**claims, **changes}, self.key, algorithm="RS256", headers={"kid": self.key_id})


class Gateway:
    def __init__(self, address, gitlab):
        self.host, self.port = address.split(":")
        self.gitlab = gitlab

    def call(self, method, path, body=None, token=None, **headers):
        token = self.gitlab.token() if token is None else token
        sent = {
            "Authorization": f"Bearer {token}", "X-Gitlab-Authentication-Type": "oidc", "x-gitlab-realm": "self-managed",
            "x-gitlab-instance-id": INSTANCE, "x-gitlab-global-user-id": USER, "x-gitlab-version": "18.9.0",
            "Content-Type": "application/json", "X-Request-ID": "01J9ZK8W2M4N6P8R0T2V4X6Z8A",
        }
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), {k: v for k, v in sent.items() if v is not None})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()

    def post(self, path, body, **kwargs):
        return self.call("POST", path, body, **kwargs)


MODEL = {"provider": "openai", "name": "general", "endpoint": "http://127.0.0.1:5052/v1", "api_key": None, "identifier": "custom_openai/sconce"}
FILE = {
    "file_name": "total.py", "language_identifier": "python",
    "content_above_cursor": "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    ",
    "content_below_cursor": "\n\nprint(total([1, 2, 3]))\n",
}
CHECKS = []


def is_built_in():
    """Only of this model is it known that it has something to say."""
    return len(sys.argv) <= 2



def check(function):
    CHECKS.append(function)
    return function


def expect(condition, *found):
    if not condition:
        raise AssertionError(" ".join(str(item) for item in found) or "not as expected")


@check
def the_first_look(gateway):
    status, _, body = gateway.call("GET", "/", Authorization=None)
    expect((status, body) == (401, '{"error":"No authorization header presented"}'), status, body)


@check
def health_and_readiness(gateway):
    for path in ["/monitoring/healthz", "/monitoring/ready", "/v1/models%2Fdefinitions", "/v1/v1/models"]:
        status, _, body = gateway.call("GET", path, Authorization="Bearer model-key")
        expect(status == 200 and isinstance(json.loads(body), dict), path, status, body)


@check
def the_connection_test_within_three_seconds(gateway):
    begun = time.monotonic()
    body = {"inputs": {}, "stream": False, "model_metadata": MODEL}
    status, headers, text = gateway.post("/v1/prompts/model_configuration%2Fcheck", body)
    expect(status == 200 and isinstance(json.loads(text), str), status, text)
    expect(time.monotonic() - begun < 3 and headers["x-request-id"] == "01J9ZK8W2M4N6P8R0T2V4X6Z8A", dict(headers))
    body["model_metadata"] = {**MODEL, "identifier": "custom_openai/nope"}
    status, _, text = gateway.post("/v1/prompts/model_configuration%2Fcheck", body)
    expect((status, text) == (421, '{"detail":"404: Not Found"}'), status, text)


@check
def a_completion(gateway):
    body = {"current_file": FILE, "prompt_version": 2, "prompt": None, "model_provider": "litellm", "model_name": "general",
            "model_identifier": MODEL["identifier"], "stream": False, "telemetry": [], "intent": "completion"}
    status, headers, text = gateway.post("/v2/code/completions", body)
    answer = json.loads(text)
    expect(status == 200 and answer["model"]["lang"] == "python", status, text)
    expect(answer["choices"] or not is_built_in(), "no suggestion", text)
    status, headers, text = gateway.post("/v2/code/completions", {**body, "stream": True})
    expect(status == 200 and not text.startswith("data:"), status, text)
    expect(headers["content-type"] == "text/event-stream; charset=utf-8", dict(headers))


@check
def a_generation_as_events(gateway):
    payload = {**FILE, "stream": True, "prompt_id": "code_suggestions/generations", "prompt_version": "^1.0.0",
               "prompt_enhancer": {"user_instruction": "Return the total.", "examples_array": [], "related_files": []}}
    body = {"prompt_components": [{"type": "code_editor_generation", "payload": payload}], "model_metadata": MODEL}
    status, headers, text = gateway.post("/v4/code/suggestions", body, X_Supports_Sse_Streaming="true")
    expect(status == 200 and headers["x-streaming-format"] == "sse", status, dict(headers))
    expect(text.startswith("event: stream_start\r\ndata: {") and text.endswith("event: stream_end\r\ndata: null\r\n\r\n"), text)


@check
def chat_in_lines(gateway):
    body = {"messages": [{"role": "user", "content": "Hi"}], "model_metadata": MODEL}
    status, headers, text = gateway.post("/v2/chat/agent", body)
    events = [json.loads(line) for line in re.findall(r"(\{.*\})\n", text)]
    expect(status == 200 and events and text.endswith("\n"), status, text)
    expect(all(event["type"] in ("final_answer_delta", "action", "unknown") for event in events), text)


@check
def a_tool_and_a_review(gateway):
    body = {"stream": True, "inputs": {"input": "What is demo/app#12 about?", "suggestions": ""}, "model_metadata": MODEL}
    status, _, text = gateway.post("/v1/prompts/chat/issue_reader", body)
    found = json.loads(text.split("```json")[1].split("```")[0])
    expect(found == {"ResourceIdentifierType": "reference", "ResourceIdentifier": "demo/app#12"}, status, text)
    diff = '<file_diff filename="a.rb">\n<line type="added" old_line="" new_line="3">  x = nil + 1</line>\n</file_diff>'
    inputs = {"mr_title": "Add", "mr_description": None, "diff_lines": diff, "full_file_intro": "", "full_content_section": "", "custom_instructions_section": ""}
    status, _, text = gateway.post("/v1/prompts/review_merge_request", {"inputs": inputs, "model_metadata": MODEL})
    expect(status == 200 and re.search(r"<review>[\s\S]*</review>", json.loads(text)), status, text)


@check
def a_token_for_an_editor(gateway):
    status, _, text = gateway.call("POST", "/v1/code/user_access_token")
    token = json.loads(text)["token"]
    body = {"current_file": FILE, "prompt_version": 1, "stream": False}
    status, _, text = gateway.post("/v2/code/completions", body, token=token)
    expect(status == 200, status, text)
    status, _, text = gateway.post("/v2/code/completions", body, token=token, x_gitlab_global_user_id="someone-else")
    expect((status, text) == (401, '{"error":"Header mismatch \'X-Gitlab-Global-User-Id\'"}'), status, text)


@check
def strangers_and_expired_tokens(gateway):
    now = int(time.time())
    for changes in [{"exp": now - 60}, {"nbf": now + 600}, {"aud": ["other"]}]:
        status, _, text = gateway.post("/v2/code/completions", {}, token=gateway.gitlab.token(**changes))
        expect((status, text) == (401, '{"error":"Forbidden by auth provider"}'), changes, status, text)
    status, _, text = gateway.post("/v2/code/completions", {"current_file": FILE}, token=gateway.gitlab.token(scopes=["duo_chat"]))
    expect((status, text) == (403, '{"detail":"Unauthorized to access code completions"}'), status, text)


@check
def new_keys_of_gitlab_work_at_once(gateway):
    old = gateway.gitlab.token()
    gateway.gitlab.rotate()
    body = {"current_file": FILE, "prompt_version": 2}
    expect(gateway.post("/v2/code/completions", body)[0] == 200, "the new key is refused")
    expect(gateway.post("/v2/code/completions", body, token=old)[0] == 401, "the former key is accepted")


def main():
    gitlab, failures = Gitlab(), 0
    with tempfile.TemporaryDirectory() as state:
        settings = {name: value for name, value in os.environ.items() if name.startswith("SCONCE__")}
        environment = {
            **settings, "PATH": os.environ["PATH"], "AIGW_GITLAB_URL": gitlab.url, "SCONCE__STATE__DIR": state,
            "SCONCE__METRICS__LISTEN": "127.0.0.1:0", "AIGW_SNOWPLOW__ENABLED": "true",
        }
        log = open(os.path.join(state, "log"), "w+")
        command = [sys.argv[1], "serve", "--listen", "127.0.0.1:0"]
        if len(sys.argv) > 2:
            command += ["--model", sys.argv[2]]
            MODEL["identifier"] = "custom_openai/" + sys.argv[2].split("=")[0]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            address = None
            for line in process.stdout:
                found = re.match(r"\s*listening\s+http://(\S+)", line)
                address = found.group(1) if found else address
                if line.strip().startswith("remote models"):
                    break
            if address is None:
                log.seek(0)
                sys.exit(f"sconce did not start:\n{log.read()}")
            gateway = Gateway(address, gitlab)
            for function in CHECKS:
                name = function.__name__.replace("_", " ")
                try:
                    function(gateway)
                    print(f"ok      {name}")
                except Exception as error:
                    failures += 1
                    print(f"FAILED  {name}: {error}")
            log.flush()
            log.seek(0)
            text = log.read()
            if "AIGW_SNOWPLOW__ENABLED has no effect" not in text or "eyJ" in text or "result += value" in text:
                failures += 1
                print("FAILED  the log names what has no effect, and holds no token and no code")
        finally:
            process.terminate()
            code = process.wait(timeout=30)
    if code != 0:
        failures += 1
        print(f"FAILED  exit code {code} after SIGTERM")
    print(f"{len(CHECKS)} checks, {failures} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
