#!/usr/bin/env python3
"""Soak a running server with mixed completions, chats and random cancellations, then check that nothing leaked.

  sconce serve --listen 127.0.0.1:5052 &
  scripts/soak.py --pid $! --minutes 10

Clients type (a growing prefix, the previous request cancelled), ask for completions and chats, streamed and not, and
hang up at random moments: before the first byte, in the middle, and not at all. Afterwards, with nobody connected, the
metrics must say that no block is held and nobody runs or waits, every answer must have ended as it should, and resident
memory must not have kept growing. Standard library only; the seed fixes the workload, the timing is the machine's.
Exit code 0 if all of that holds. `--json` prints the figures for machines.
"""
import argparse
import http.client
import json
import random
import re
import sys
import threading
import time
import urllib.request

CODE = '''def total(values):
    result = 0
    for value in values:
        result += value
    return result


class Counter:
    """Counts things by name."""

    def __init__(self):
        self.counts = {}

    def add(self, name, count=1):
        self.counts[name] = self.counts.get(name, 0) + count

    def most_common(self):
        return sorted(self.counts.items(), key=lambda item: -item[1])


def read_lines(path):
    with open(path) as file:
        for line in file:
            yield line.rstrip()
'''


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.problems = []

    def add(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)


def completion(rng):
    cut = rng.randrange(20, len(CODE))
    body = {"model": "", "prompt": CODE[:cut], "max_tokens": rng.choice([1, 8, 32, 64]), "temperature": rng.choice([0, 0.8])}
    if rng.random() < 0.7:
        body["suffix"] = CODE[cut + rng.randrange(0, 40):]
    if rng.random() < 0.2:
        body["stop"] = ["\n\n"]
    return "/v1/completions", body


def chat(rng):
    messages = [{"role": "user", "content": "Explain this code:\n" + CODE[: rng.randrange(50, len(CODE))]}]
    return "/v1/chat/completions", {"model": "", "messages": messages, "max_tokens": rng.choice([16, 64, 160])}


def request(args, model, path, body, headers, rng, hang_up_after, tally):
    """One request. Reads `hang_up_after` bytes and closes, or everything when it is None."""
    body = dict(body, model=model)
    connection = http.client.HTTPConnection(args.host, args.port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
        if hang_up_after == 0:
            time.sleep(rng.random() * 0.05)
            tally.add("hung up before the answer")
            return
        response = connection.getresponse()
        if hang_up_after is not None:
            response.read(hang_up_after)
            tally.add("hung up in the middle")
            return
        text = response.read().decode()
        if response.status in (409, 429, 503):
            tally.add(f"status {response.status}")
        elif response.status != 200:
            tally.problem(f"{path}: status {response.status}: {text[:200]}")
        elif body.get("stream") and not text.rstrip().endswith("data: [DONE]"):
            tally.add("superseded in the stream" if '"superseded"' in text else "stream without its end")
            if '"superseded"' not in text:
                tally.problem(f"{path}: a stream ended with {text[-200:]!r}")
        else:
            tally.add("answered")
    except (OSError, http.client.HTTPException) as error:
        tally.problem(f"{path}: {type(error).__name__}: {error}")
    finally:
        connection.close()


def client(args, model, index, until, tally):
    rng = random.Random(args.seed * 1000 + index)
    while time.monotonic() < until:
        path, body = completion(rng) if rng.random() < 0.6 else chat(rng)
        body["stream"] = rng.random() < 0.6
        draw = rng.random()
        hang_up_after = 0 if draw < 0.15 else rng.randrange(1, 400) if draw < 0.35 else None
        request(args, model, path, body, {}, rng, hang_up_after, tally)
        time.sleep(rng.random() * 0.05)


def typist(args, model, index, until, tally):
    """Types in one session: each keystroke supersedes or cancels the one before."""
    rng = random.Random(args.seed * 1000 + 500 + index)
    while time.monotonic() < until:
        start = rng.randrange(20, len(CODE) - 60)
        threads = []
        for key in range(8):
            body = {"prompt": CODE[: start + key], "suffix": CODE[start + 60:], "max_tokens": 24, "temperature": 0, "stream": rng.random() < 0.5}
            hang_up_after = 0 if rng.random() < 0.3 else None
            headers = {"X-Session-Id": f"typist-{index}"}
            thread = threading.Thread(target=request, args=(args, model, "/v1/completions", body, headers, rng, hang_up_after, tally))
            thread.start()
            threads.append(thread)
            time.sleep(0.08)
        for thread in threads:
            thread.join()


def metrics(args):
    with urllib.request.urlopen(args.metrics, timeout=10) as response:
        text = response.read().decode()
    values = {}
    for name, value in re.findall(r"^(sconce_\w+)(?:\{[^}]*\})? ([-+0-9.e]+)$", text, re.M):
        values[name] = values.get(name, 0) + float(value)
    return values


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def descriptors(pid):
    import os
    return len(os.listdir(f"/proc/{pid}/fd"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5052)
    parser.add_argument("--metrics", default="http://127.0.0.1:9464/metrics")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--typists", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    with urllib.request.urlopen(f"http://{args.host}:{args.port}/v1/models", timeout=10) as response:
        model = json.load(response)["data"][0]["id"]
    tally = Tally()
    until = time.monotonic() + args.minutes * 60
    threads = [threading.Thread(target=client, args=(args, model, i, until, tally)) for i in range(args.clients)]
    threads += [threading.Thread(target=typist, args=(args, model, i, until, tally)) for i in range(args.typists)]
    for thread in threads:
        thread.start()
    samples = []
    while time.monotonic() < until:
        time.sleep(min(10, max(0.1, until - time.monotonic())))
        samples.append((time.monotonic(), resident_kib(args.pid), descriptors(args.pid)))
        left = max(0, until - time.monotonic())
        print(f"\r{left:5.0f} s left, {sum(tally.counts.values())} requests, {samples[-1][1] / 1024:.0f} MiB resident, "
              f"{samples[-1][2]} descriptors ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for thread in threads:
        thread.join()
    for _ in range(100):
        values = metrics(args)
        held = values["sconce_kv_blocks"] - values["sconce_kv_blocks_free"]
        busy = values["sconce_requests_running"] + values["sconce_requests_waiting"]
        if held == 0 and busy == 0:
            break
        time.sleep(0.1)
    else:
        tally.problem(f"{held:.0f} blocks are held and {busy:.0f} requests live with nobody connected")
    settled = samples[len(samples) // 3:]
    growth = settled[-1][1] - settled[0][1] if len(settled) > 1 else 0
    minutes = (settled[-1][0] - settled[0][0]) / 60 if len(settled) > 1 else 0
    if growth > 20 * 1024:
        tally.problem(f"resident memory grew by {growth / 1024:.0f} MiB in the last {minutes:.1f} minutes")
    after = descriptors(args.pid)
    if after > samples[0][2] + 5:
        tally.problem(f"{after} descriptors are open with nobody connected")
    report = {
        "seed": args.seed,
        "minutes": args.minutes,
        "requests": tally.counts,
        "problems": tally.problems[:20],
        "resident_mib": [round(kib / 1024, 1) for _, kib, _ in samples],
        "growth_kib_settled": growth,
        "descriptors_after": after,
        "blocks_held": held,
        "generated_tokens": values.get("sconce_generated_tokens_total"),
        "cached_share": round(values.get("sconce_cached_prompt_tokens_total", 0) / max(1, values.get("sconce_prompt_tokens_total", 1)), 3),
        "preemptions": values.get("sconce_preemptions_total"),
    }
    if args.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:20} {value}")
    sys.exit(1 if tally.problems else 0)


if __name__ == "__main__":
    main()
