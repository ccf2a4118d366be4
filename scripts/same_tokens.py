#!/usr/bin/env python3
"""Compares what two running servers answer greedily to the same prompts: one device held to another.

    scripts/same_tokens.py REFERENCE_URL URL [--model NAME] [--api-key KEY] [--tie NATS] [--max-tokens N] [--json]

Asks both for completions, with and without a suffix, and for chats at temperature 0, and compares token by token. Where
they part, the reference's two best tokens decide: nearer than --tie they are a tie that rounding may break either
way, and what follows is of another text; farther apart it is a fault. Exits with 1 for a fault, or for a server that
does not answer. Needs Python 3 and nothing else.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request

# A logit of 16 to 32 is a multiple of 1/8 in bf16: two of them that are nearer than that may change places.
TIE_NATS = 0.125

INFILLS = [
    ("def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return ", "\n\n\n"),
    ("fn main() {\n    let names = [\"a\", \"b\"];\n    for name in ", " {\n        println!(\"{name}\");\n    }\n}\n"),
    ("#include <stdio.h>\n\nint main(void) {\n    for (int i = 0; i < 9; i++) {\n        ", "\n    }\n}\n"),
    ("class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n        ", "\n"),
    ("SELECT name, count(*) FROM orders GROUP BY ", " ORDER BY 2 DESC;\n"),
]
COMPLETIONS = [
    "import os\nimport sys\n\n\ndef main():\n",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "package main\n\nimport \"fmt\"\n\nfunc fibonacci(n int) int {\n",
    "# " + ", ".join(str(number) for number in range(120)),
    "x",
]
CHATS = [
    "Write a function that reverses a string in Python.",
    "Explain in two sentences what a mutex is.",
    "What does this do?\n\n```rust\nlet total: u32 = (1..=10).filter(|n| n % 2 == 0).sum();\n```",
]


class Server:
    def __init__(self, url, options):
        self.url, self.options = url.rstrip("/"), options
        self.model = options.model or self.ask("/v1/models")["data"][0]["id"]

    def ask(self, path, body=None):
        headers = {"Content-Type": "application/json"}
        if self.options.api_key:
            headers["Authorization"] = f"Bearer {self.options.api_key}"
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=self.options.timeout) as answer:
            return json.load(answer)

    def tokens(self, path, body):
        """The answer's tokens, each with the distance of the two best, in nats."""
        common = {"model": self.model, "max_tokens": self.options.max_tokens, "temperature": 0}
        choice = self.ask(path, common | body)["choices"][0]
        if "message" in choice:
            steps = choice["logprobs"]["content"]
            return [(step["token"], distance(best["logprob"] for best in step["top_logprobs"])) for step in steps]
        logprobs = choice["logprobs"]
        return [(token, distance(best.values())) for token, best in zip(logprobs["tokens"], logprobs["top_logprobs"])]


def distance(logprobs):
    best = sorted(logprobs, reverse=True)
    # Two tokens of the same text share an entry: nothing is known of how near they are.
    return best[0] - best[1] if len(best) > 1 else 0.0


def requests():
    for prompt, suffix in INFILLS:
        yield "infill", "/v1/completions", {"prompt": prompt, "suffix": suffix, "logprobs": 2}
    for prompt in COMPLETIONS:
        yield "completion", "/v1/completions", {"prompt": prompt, "logprobs": 2}
    for message in CHATS:
        messages = [{"role": "user", "content": message}]
        yield "chat", "/v1/chat/completions", {"messages": messages, "logprobs": True, "top_logprobs": 2}


def compare(expected, found, tie):
    """What came of one request: `same`, `tie` or `fault`, how many tokens agree, and the distance where they part."""
    parted = [place for place, pair in enumerate(zip(expected, found)) if pair[0][0] != pair[1][0]]
    agreed = min([*parted, len(expected), len(found)])
    if agreed == len(expected) == len(found):
        return {"result": "same", "tokens": agreed, "gap": None}
    # Where one ended, the distance is told by the one that went on.
    gap = (expected if agreed < len(expected) else found)[agreed][1]
    return {"result": "tie" if gap <= tie else "fault", "tokens": agreed, "gap": round(gap, 4)}


def refused(error):
    """Why a model does not take this kind of prompt; `None` for any other failure."""
    if isinstance(error, urllib.error.HTTPError) and error.code in (400, 422):
        return json.loads(error.read() or b"{}").get("error", {}).get("message", str(error))
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reference", metavar="REFERENCE_URL")
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--model", help="name of the model on both; the first that is listed otherwise")
    parser.add_argument("--api-key")
    parser.add_argument("--tie", type=float, default=TIE_NATS, metavar="NATS", help=f"default {TIE_NATS}")
    parser.add_argument("--max-tokens", type=int, default=48, metavar="N")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="of one request")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = []
    try:
        reference, server = Server(options.reference, options), Server(options.url, options)
        for kind, path, body in requests():
            try:
                expected = reference.tokens(path, body)
            except urllib.error.HTTPError as error:
                if (reason := refused(error)) is None:
                    raise
                rows.append({"kind": kind, "result": "refused", "tokens": 0, "gap": None, "reason": reason})
                continue
            rows.append({"kind": kind} | compare(expected, server.tokens(path, body), options.tie))
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        print(f"same_tokens: a server did not answer as expected: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return report(rows, options)


def report(rows, options):
    counts = {result: sum(row["result"] == result for row in rows) for result in ("same", "tie", "fault", "refused")}
    tokens = sum(row["tokens"] for row in rows)
    passed = counts["fault"] == 0 and tokens > 0
    if options.json:
        print(json.dumps({"passed": passed, "prompts": counts, "tokens_equal": tokens, "rows": rows}))
    else:
        for row in rows:
            gap = "" if row["gap"] is None else f", then {row['gap']} nats between the reference's two best"
            print(f"{row['result']:8}{row['kind']:11}{row['tokens']:5} tokens equal{gap}")
        same, tie, fault = counts["same"], counts["tie"], counts["fault"]
        print(f"{len(rows)} prompts: {same} the same, {tie} parted at a tie, {fault} at fault; {tokens} tokens equal")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
